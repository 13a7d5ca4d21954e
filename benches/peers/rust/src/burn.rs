//! burn: its LSTM on its own CPU backend, Flex, with autodiff in training.

use crate::problem::{Contender, Fallible, Problem};
use burn::module::Param;
use burn::nn::{GateController, Lstm, LstmConfig};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

pub fn prepare(problem: Problem) -> Fallible<Box<dyn Contender>> {
    let Problem { input, hidden, batch, steps, train, u, w, b, x, dy, .. } = problem;
    let device = if train { Device::flex().autodiff() } else { Device::flex() };
    let mut lstm = LstmConfig::new(input, hidden, true).with_batch_first(false).init(&device);
    for (gate, controller) in gates(&mut lstm)?.into_iter().enumerate() {
        let rows = |values: &[f32], width: usize| {
            let from = gate * hidden * width;
            values[from..from + hidden * width].to_vec()
        };
        // burn has the outputs along the rows.
        let weights = |values, width| -> Param<Tensor<2>> {
            let data = TensorData::new(transpose(&rows(values, width), width), [width, hidden]);
            Param::from_tensor(Tensor::from_data(data, &device))
        };
        controller.input_transform.weight = weights(&u, input);
        controller.hidden_transform.weight = weights(&w, hidden);
        let bias = TensorData::new(rows(&b, 1), [hidden]);
        controller.input_transform.bias =
            Some(Param::from_tensor(Tensor::from_data(bias, &device)));
        // One vector of biases, as in the equations: the second would only be more work.
        controller.hidden_transform.bias = None;
    }
    let tensor = |values, width| {
        Tensor::<3>::from_data(TensorData::new(values, [steps, batch, width]), &device)
    };
    let x = tensor(x, input);
    Ok(Box::new(Burn {
        lstm,
        x: if train { x.require_grad() } else { x },
        dy: train.then(|| tensor(dy, hidden)),
        last: None,
    }))
}

/// The gates in the order i, f, g, o.
fn gates(lstm: &mut Lstm) -> Fallible<[&mut GateController; 4]> {
    let forget = lstm.forget_gate.as_mut().ok_or("no forget gate")?;
    Ok([&mut lstm.input_gate, forget, &mut lstm.cell_gate, &mut lstm.output_gate])
}

fn transpose(values: &[f32], width: usize) -> Vec<f32> {
    (0..width).flat_map(|column| values.iter().skip(column).step_by(width).copied()).collect()
}

struct Burn {
    lstm: Lstm,
    x: Tensor<3>,
    /// In training.
    dy: Option<Tensor<3>>,
    last: Option<(Tensor<3>, Option<Gradients>)>,
}

impl Contender for Burn {
    fn pass(&mut self) -> Fallible<()> {
        let (y, _) = self.lstm.forward(self.x.clone(), None);
        let gradients = self.dy.as_ref().map(|dy| (y.clone() * dy.clone()).sum().backward());
        self.last = Some((y, gradients));
        Ok(())
    }

    fn results(&mut self) -> Fallible<Vec<(&'static str, Vec<f32>)>> {
        let (y, gradients) = self.last.as_ref().ok_or("no pass yet")?;
        let plain =
            |data: TensorData| data.try_into_vec::<f32>().map_err(|error| format!("{error:?}"));
        let mut results = vec![("y", plain(y.to_data())?)];
        if let Some(gradients) = gradients {
            let missing = "a gradient is missing";
            let (mut du, mut dw, mut db) = (Vec::new(), Vec::new(), Vec::new());
            for gate in gates(&mut self.lstm)? {
                let weights = [
                    (&mut du, &gate.input_transform.weight),
                    (&mut dw, &gate.hidden_transform.weight),
                ];
                for (to, weight) in weights {
                    let gradient = weight.grad(gradients).ok_or(missing)?;
                    let [_, width] = gradient.dims();
                    to.extend(transpose(&plain(gradient.into_data())?, width));
                }
                let bias = gate.input_transform.bias.as_ref().ok_or(missing)?;
                db.extend(plain(bias.grad(gradients).ok_or(missing)?.into_data())?);
            }
            let dx = plain(self.x.grad(gradients).ok_or(missing)?.into_data())?;
            results.extend([("du", du), ("dw", dw), ("db", db), ("dx", dx)]);
        }
        Ok(results)
    }
}
