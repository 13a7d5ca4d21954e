//! candle: its LSTM, and back-propagation through its graph.

use crate::problem::{Contender, Fallible, Problem};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::rnn::{LSTM, LSTMConfig, RNN};
use candle_nn::{VarBuilder, VarMap};

pub fn prepare(problem: Problem) -> Fallible<Box<dyn Contender>> {
    let Problem { input, hidden, batch, steps, train, u, w, b, x, dy, .. } = problem;
    let device = Device::Cpu;
    let variable = |values, shape: &[usize]| -> Fallible<Var> {
        Ok(Var::from_tensor(&Tensor::from_vec(values, shape, &device)?)?)
    };
    let u = variable(u, &[4 * hidden, input])?;
    let w = variable(w, &[4 * hidden, hidden])?;
    let b = variable(b, &[4 * hidden])?;
    let x = variable(x, &[steps, batch, input])?;
    let map = VarMap::new();
    {
        let mut map = map.data().lock().map_err(|error| error.to_string())?;
        for (name, variable) in [("weight_ih_l0", &u), ("weight_hh_l0", &w), ("bias_ih_l0", &b)] {
            map.insert(name.into(), variable.clone());
        }
    }
    // One vector of biases, as in the equations: the second would only be more work.
    let config = LSTMConfig { b_hh_init: None, ..Default::default() };
    let builder = if train {
        VarBuilder::from_varmap(&map, DType::F32, &device)
    } else {
        // Plain tensors: of variables it would keep the graph.
        let named = [("weight_ih_l0", &u), ("weight_hh_l0", &w), ("bias_ih_l0", &b)];
        let plain = named.map(|(name, variable)| (name.to_owned(), variable.as_detached_tensor()));
        VarBuilder::from_tensors(plain.into_iter().collect(), DType::F32, &device)
    };
    Ok(Box::new(Candle {
        lstm: LSTM::new(input, hidden, config, builder)?,
        variables: [("du", u), ("dw", w), ("db", b), ("dx", x)],
        dy: train.then(|| Tensor::from_vec(dy, (steps, batch, hidden), &device)).transpose()?,
        last: None,
    }))
}

struct Candle {
    lstm: LSTM,
    /// By the names of their gradients.
    variables: [(&'static str, Var); 4],
    /// In training.
    dy: Option<Tensor>,
    last: Option<(Tensor, Option<GradStore>)>,
}

impl Contender for Candle {
    fn pass(&mut self) -> Fallible<()> {
        let x = &self.variables[3].1;
        let x = if self.dy.is_some() { x.as_tensor().clone() } else { x.as_detached_tensor() };
        let states = self.lstm.seq(&x.transpose(0, 1)?)?;
        let hidden: Vec<_> = states.iter().map(|state| state.h()).collect();
        let y = Tensor::stack(&hidden, 0)?;
        let gradients = match &self.dy {
            Some(dy) => Some((&y * dy)?.sum_all()?.backward()?),
            None => None,
        };
        self.last = Some((y, gradients));
        Ok(())
    }

    fn results(&mut self) -> Fallible<Vec<(&'static str, Vec<f32>)>> {
        let (y, gradients) = self.last.as_ref().ok_or("no pass yet")?;
        let plain = |tensor: &Tensor| tensor.flatten_all()?.to_vec1();
        let mut results = vec![("y", plain(y)?)];
        if let Some(gradients) = gradients {
            for (name, variable) in &self.variables {
                let gradient = gradients.get(variable).ok_or("a gradient is missing")?;
                results.push((*name, plain(gradient)?));
            }
        }
        Ok(results)
    }
}
