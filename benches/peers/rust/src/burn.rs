//! burn: its LSTM, GRU and RNN on its own CPU backend, Flex, with autodiff in training.

use crate::problem::{Cell, Contender, Fallible, Problem};
use burn::module::Param;
use burn::nn::{GateController, Gru, GruConfig, Lstm, LstmConfig, Rnn, RnnConfig};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

pub fn prepare(problem: Problem) -> Fallible<Box<dyn Contender>> {
    problem.expect_one_length()?;
    let Problem { cell, input, hidden, batch, steps, train, .. } = problem;
    let device = if train { Device::flex().autodiff() } else { Device::flex() };
    let mut layer = Layer::new(cell, input, hidden, &device);
    fill(&mut layer, &problem, &device)?;
    let tensor = |values, width| {
        Tensor::<3>::from_data(TensorData::new(values, [steps, batch, width]), &device)
    };
    let x = tensor(problem.x, input);
    Ok(Box::new(Burn {
        layer,
        x: if train { x.require_grad() } else { x },
        dy: train.then(|| tensor(problem.dy, hidden)),
        last: None,
    }))
}

enum Layer {
    Lstm(Box<Lstm>),
    Gru(Box<Gru>),
    Vanilla(Box<Rnn>),
}

impl Layer {
    fn new(cell: Cell, input: usize, hidden: usize, device: &Device) -> Self {
        match cell {
            Cell::Lstm => {
                let config = LstmConfig::new(input, hidden, true).with_batch_first(false);
                Self::Lstm(config.init(device).into())
            }
            Cell::Gru => Self::Gru(GruConfig::new(input, hidden, true).init(device).into()),
            Cell::Vanilla => {
                let config = RnnConfig::new(input, hidden, true).with_batch_first(false);
                Self::Vanilla(config.init(device).into())
            }
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Lstm(lstm) => lstm.forward(x, None).0,
            // It alone knows only batches first: what the others do within.
            Self::Gru(gru) => gru.forward(x.swap_dims(0, 1), None).swap_dims(0, 1),
            Self::Vanilla(rnn) => rnn.forward(x, None).0,
        }
    }

    /// The gates in the order i, f, g, o or r, u, n.
    fn gates(&mut self) -> Fallible<Vec<&mut GateController>> {
        Ok(match self {
            Self::Lstm(lstm) => {
                let forget = lstm.forget_gate.as_mut().ok_or("no forget gate")?;
                vec![&mut lstm.input_gate, forget, &mut lstm.cell_gate, &mut lstm.output_gate]
            }
            Self::Gru(gru) => vec![&mut gru.reset_gate, &mut gru.update_gate, &mut gru.new_gate],
            Self::Vanilla(rnn) => vec![&mut rnn.gate],
        })
    }
}

fn fill(layer: &mut Layer, problem: &Problem, device: &Device) -> Fallible<()> {
    let Problem { input, hidden, u, w, b, b_hn, .. } = problem;
    let (input, hidden) = (*input, *hidden);
    let bias = |values: &[f32]| -> Option<Param<Tensor<1>>> {
        let data = TensorData::new(values.to_vec(), [hidden]);
        Some(Param::from_tensor(Tensor::from_data(data, device)))
    };
    for (gate, controller) in layer.gates()?.into_iter().enumerate() {
        // burn has the outputs along the rows.
        let weights = |values: &[f32], width| -> Param<Tensor<2>> {
            let rows = &values[gate * hidden * width..][..hidden * width];
            let data = TensorData::new(transpose(rows, width), [width, hidden]);
            Param::from_tensor(Tensor::from_data(data, device))
        };
        controller.input_transform.weight = weights(u, input);
        controller.hidden_transform.weight = weights(w, hidden);
        controller.input_transform.bias = bias(&b[gate * hidden..][..hidden]);
        // One vector of biases but for the GRU's candidate, as in the equations: a second
        // would only be more work.
        controller.hidden_transform.bias =
            if gate == 2 && !b_hn.is_empty() { bias(b_hn) } else { None };
    }
    Ok(())
}

fn transpose(values: &[f32], width: usize) -> Vec<f32> {
    (0..width).flat_map(|column| values.iter().skip(column).step_by(width).copied()).collect()
}

struct Burn {
    layer: Layer,
    x: Tensor<3>,
    /// In training.
    dy: Option<Tensor<3>>,
    last: Option<(Tensor<3>, Option<Gradients>)>,
}

impl Contender for Burn {
    fn pass(&mut self) -> Fallible<()> {
        let y = self.layer.forward(self.x.clone());
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
            for gate in self.layer.gates()? {
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
                if let Some(bias) = &gate.hidden_transform.bias {
                    let db_hn = bias.grad(gradients).ok_or(missing)?.into_data();
                    results.push(("db_hn", plain(db_hn)?));
                }
            }
            let dx = plain(self.x.grad(gradients).ok_or(missing)?.into_data())?;
            results.extend([("du", du), ("dw", dw), ("db", db), ("dx", dx)]);
        }
        Ok(results)
    }
}
