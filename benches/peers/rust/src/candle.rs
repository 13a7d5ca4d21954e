//! candle: its LSTM and GRU, and back-propagation through its graph.

use crate::problem::{Cell, Contender, Fallible, Problem};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::rnn::{GRU, GRUConfig, GRUState, LSTM, LSTMConfig, LSTMState, RNN};
use candle_nn::{VarBuilder, VarMap};

pub fn prepare(problem: Problem) -> Fallible<Box<dyn Contender>> {
    problem.expect_one_length()?;
    let Problem { cell, input, hidden, .. } = problem;
    let data = Data::of(problem)?;
    let builder = data.builder()?;
    match cell {
        Cell::Lstm => {
            // One vector of biases, as in the equations: the second would only be more work.
            let config = LSTMConfig { b_hh_init: None, ..Default::default() };
            let layer = LSTM::new(input, hidden, config, builder)?;
            Ok(Box::new(Candle { layer, output: LSTMState::h, data, last: None }))
        }
        Cell::Gru => {
            let layer = GRU::new(input, hidden, GRUConfig::default(), builder)?;
            Ok(Box::new(Candle { layer, output: GRUState::h, data, last: None }))
        }
        Cell::Vanilla => Err("has no such cell".into()),
    }
}

struct Data {
    hidden: usize,
    /// By candle's names, and those of their gradients.
    parameters: Vec<(&'static str, &'static str, Var)>,
    x: Var,
    /// In training.
    dy: Option<Tensor>,
}

impl Data {
    fn of(problem: Problem) -> Fallible<Self> {
        let Problem { cell, input, hidden, batch, steps, train, u, w, b, b_hn, x, dy, .. } =
            problem;
        let variable = |values, shape: &[usize]| -> Fallible<Var> {
            Ok(Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)?)
        };
        let rows = cell.gates() * hidden;
        let mut parameters = vec![
            ("weight_ih_l0", "du", variable(u, &[rows, input])?),
            ("weight_hh_l0", "dw", variable(w, &[rows, hidden])?),
            ("bias_ih_l0", "db", variable(b, &[rows])?),
        ];
        if !b_hn.is_empty() {
            // The other gates have one vector of biases in the equations.
            let biases = [vec![0.0; rows - hidden], b_hn].concat();
            parameters.push(("bias_hh_l0", "db_hn", variable(biases, &[rows])?));
        }
        let dy = train.then(|| Tensor::from_vec(dy, (steps, batch, hidden), &Device::Cpu));
        let x = variable(x, &[steps, batch, input])?;
        Ok(Self { hidden, parameters, x, dy: dy.transpose()? })
    }

    fn builder(&self) -> Fallible<VarBuilder<'static>> {
        let named =
            self.parameters.iter().map(|(name, _, variable)| ((*name).to_owned(), variable));
        if self.dy.is_some() {
            let map = VarMap::new();
            let variables = named.map(|(name, variable)| (name, variable.clone()));
            map.data().lock().map_err(|error| error.to_string())?.extend(variables);
            Ok(VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu))
        } else {
            // Plain tensors: of variables it would keep the graph.
            let plain = named.map(|(name, variable)| (name, variable.as_detached_tensor()));
            Ok(VarBuilder::from_tensors(plain.collect(), DType::F32, &Device::Cpu))
        }
    }
}

struct Candle<L: RNN> {
    layer: L,
    output: fn(&L::State) -> &Tensor,
    data: Data,
    last: Option<(Tensor, Option<GradStore>)>,
}

impl<L: RNN> Contender for Candle<L> {
    fn pass(&mut self) -> Fallible<()> {
        let Data { x, dy, .. } = &self.data;
        let x = if dy.is_some() { x.as_tensor().clone() } else { x.as_detached_tensor() };
        let states = self.layer.seq(&x.transpose(0, 1)?)?;
        let hidden: Vec<_> = states.iter().map(self.output).collect();
        let y = Tensor::stack(&hidden, 0)?;
        let gradients = match dy {
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
            let Data { hidden, parameters, x, .. } = &self.data;
            let named = parameters.iter().map(|(_, name, variable)| (*name, variable));
            for (name, variable) in named.chain([("dx", x)]) {
                let gradient = gradients.get(variable).ok_or("a gradient is missing")?;
                let mut values = plain(gradient)?;
                if name == "db_hn" {
                    // The last of three gates'.
                    values = values.split_off(2 * hidden);
                }
                results.push((name, values));
            }
        }
        Ok(results)
    }
}
