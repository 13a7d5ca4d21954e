//! Models in files: every block with every option comes back as it was. A file that is incomplete,
//! not a model of this crate, or not of the network that it describes gives a typed error that says
//! what is wrong.

mod common;

use bptt::blocks::{Block, Config, Pass, Plan};
use bptt::{
    Dense, Embedding, Error, InputSize, Loader, Lstm, Model, Network, Regularisation, Reversed,
    Runtime, Schedule, Tokens,
};
use common::{Kind, Subject};
use rand::{SeedableRng, rngs::StdRng};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::collections::HashMap;
use std::path::PathBuf;

fn runtime() -> Runtime {
    Runtime::best().unwrap()
}

fn init(network: &Network, seed: u64) -> Model {
    network.init(&mut StdRng::seed_from_u64(seed), runtime()).unwrap()
}

/// A folder for one test, deleted at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bptt-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The outputs of a pass over drawn inputs.
fn outputs(model: &mut Model) -> Vec<f32> {
    let mut workspace = model.training_workspace(Schedule::dense(9, 1)).unwrap();
    match model.input() {
        InputSize::Features(size) => {
            let x: Vec<f32> = (0..9 * size).map(|n| (n as f32 * 0.7).sin()).collect();
            model.forward(&mut workspace, &x).unwrap().to_vec()
        }
        InputSize::Tokens(count) => {
            let x: Vec<u32> = (0..9).map(|n| (n * 7 % count) as u32).collect();
            model.forward(&mut workspace, Tokens(&x)).unwrap().to_vec()
        }
    }
}

#[test]
fn every_block_with_every_option_comes_back() {
    let noise = Regularisation::none().with_dropout(0.3).unwrap().with_zoneout(0.1, 0.0).unwrap();
    let mut networks = Vec::new();
    for kind in Kind::all() {
        let subject = Subject { kind, inputs: 3, hidden: 5 };
        networks.push(subject.network());
        networks.push(subject.reversed_with(Regularisation::none()));
        if kind.takes_noise() {
            networks.push(subject.network_with(noise));
            networks.push(subject.reversed_with(noise));
        }
    }
    let lstm = Lstm::new(3, 5).unwrap().with_forget_bias(0.1).unwrap();
    networks.push(
        Network::new(Embedding::new(11, 3).unwrap()).then(lstm).then(Dense::new(5, 2).unwrap()),
    );
    let twice = Reversed::new(Reversed::new(Embedding::new(11, 3).unwrap()));
    networks.push(Network::new(twice).then(Reversed::new(Dense::new(3, 2).unwrap())));
    for (seed, network) in (0..).zip(&networks) {
        let mut model = init(network, seed);
        let mut again = Model::of_safetensors(&model.to_safetensors().unwrap(), runtime()).unwrap();
        let configs = |model: &Model| -> Vec<Config> {
            model.network().blocks().map(|block| block.config()).collect()
        };
        // A file does not keep the order of options.
        for (given, expected) in configs(&again).iter().zip(configs(&model)) {
            assert_eq!(given.to_string(), expected.to_string());
        }
        assert_eq!(again.parameters().as_slice(), model.parameters().as_slice());
        assert_eq!(again.manifest(), model.manifest());
        assert_eq!(outputs(&mut again), outputs(&mut model), "{:?}", configs(&model));
    }
}

/// Every number in a configuration comes back from its decimals as the same f32.
#[test]
fn numbers_come_back_to_the_bit() {
    let numbers = [0.1, 1.0, -2.5e-8, f32::MIN_POSITIVE, f32::MAX, 1.0 / 3.0, 16_777_217.0];
    for forget_bias in numbers {
        let lstm = Lstm::new(1, 1).unwrap().with_forget_bias(forget_bias).unwrap();
        let model = init(&Network::new(lstm), 1);
        let again = Model::of_safetensors(&model.to_safetensors().unwrap(), runtime()).unwrap();
        let config = again.network().blocks().next().unwrap().config();
        assert_eq!(config.number("forget_bias"), Ok(forget_bias));
    }
}

#[test]
fn a_file_is_written_beside_and_renamed() {
    let folder = Folder::new("files-written");
    let path = folder.0.join("model.safetensors");
    let network = Network::new(Dense::new(2, 2).unwrap());
    for seed in [1, 2] {
        let model = init(&network, seed);
        model.save(&path).unwrap();
        let again = Model::load(&path, runtime()).unwrap();
        assert_eq!(again.parameters().as_slice(), model.parameters().as_slice());
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "nothing else is left");
    }
    let nowhere = folder.0.join("no/such/folder/model.safetensors");
    let error = init(&network, 3).save(&nowhere).unwrap_err();
    assert!(matches!(error, Error::Io { kind: std::io::ErrorKind::NotFound, .. }), "{error}");
    let error = Model::load(&nowhere, runtime()).unwrap_err();
    assert!(error.to_string().contains("no/such/folder"), "{error}");
}

/// The error from loading a file with these bytes.
#[track_caller]
fn refused(bytes: &[u8]) -> String {
    let error = Model::of_safetensors(bytes, runtime()).unwrap_err();
    assert!(!matches!(error, Error::Io { .. }));
    error.to_string()
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let bytes = init(&Network::new(Lstm::new(2, 3).unwrap()), 1).to_safetensors().unwrap();
    for len in 0..bytes.len() {
        let text = refused(&bytes[..len]);
        assert!(text.contains("expected a whole file of safetensors"), "{len}: {text}");
    }
    refused(&[&bytes[..], &[0]].concat());
}

/// A change to a file: to its tensors, by name, and its metadata.
type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

/// The bytes of a saved model after a change.
fn changed(
    network: &Network,
    change: impl FnOnce(&mut Tensors, &mut HashMap<String, String>),
) -> Vec<u8> {
    let bytes = init(network, 1).to_safetensors().unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    let all = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = all
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        .collect();
    change(&mut tensors, &mut metadata);
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    serialize(views, Some(metadata)).unwrap()
}

#[test]
fn what_does_not_fit_is_named() {
    let network = Network::new(Lstm::new(2, 5).unwrap()).then(Dense::new(5, 1).unwrap());
    let text = |change: fn(&mut Tensors, &mut HashMap<String, String>)| {
        refused(&changed(&network, change))
    };

    // A shape of 16 where the weights have 20.
    let error = text(|_, metadata| {
        let network = metadata.get_mut("network").unwrap();
        *network = network.replace("\"hidden_size\":5", "\"hidden_size\":4");
        *network = network.replace("\"input_size\":5", "\"input_size\":4");
    });
    assert_eq!(error, "tensor 0.weight_ih: F32 [20, 2], expected F32 [16, 2]");
    // A tensor that nobody reads.
    let error = text(|tensors, _| {
        tensors.push(("1.gain".into(), Dtype::F32, vec![2], vec![0; 8]));
    });
    assert!(
        error.starts_with("tensor 1.gain: in the file, expected one of 0.weight_ih"),
        "{error}"
    );
    // A tensor that is missing.
    let error = text(|tensors, _| tensors.retain(|tensor| tensor.0 != "0.bias"));
    assert_eq!(error, "tensor 0.bias: missing, expected F32 [20]");
    // A tensor of another type.
    let error = text(|tensors, _| {
        let bias = tensors.iter_mut().find(|tensor| tensor.0 == "1.bias").unwrap();
        *bias = ("1.bias".into(), Dtype::F16, vec![1], vec![0; 2]);
    });
    assert_eq!(error, "tensor 1.bias: F16 [1], expected F32 [1]");
    // An option that nobody reads.
    let error = text(|_, metadata| {
        let network = metadata.get_mut("network").unwrap();
        *network = network.replace("\"peepholes\"", "\"peep_holes\"");
    });
    assert!(error.contains("peep_holes of Lstm"), "{error}");
    // Options that this crate does not know, and limits that it refuses.
    for (option, named) in [
        ("\"gate_activation\":\"hard\"", "gate_activation hard"),
        ("\"cell_clip\":-1.0", "cell_clip"),
        ("\"projection_clip\":1.0", "a layer without a projection"),
    ] {
        let error = refused(&changed(&network, |_, metadata| {
            let network = metadata.get_mut("network").unwrap();
            *network = network.replace("\"peepholes\"", &format!("{option},\"peepholes\""));
        }));
        assert!(error.contains(named), "{error}");
    }
    // Blocks that do not fit each other.
    let error = text(|_, metadata| {
        let network = metadata.get_mut("network").unwrap();
        *network = network.replace("\"input_size\":5", "\"input_size\":7");
    });
    assert!(error.contains("5 features of block 0") && error.contains("block 1"), "{error}");
    // Files of another program, of an older and a later version, and with bad configurations.
    let error = text(|_, metadata| metadata.clear());
    assert_eq!(error, "the form of the file: not given, expected bptt 1");
    let error = text(|_, metadata| {
        metadata.insert("bptt".into(), "0".into());
    });
    assert_eq!(error, "the form of the file: bptt 0, expected bptt 1");
    for (network, what) in [
        ("[]", "without blocks"),
        ("7", "no list of blocks"),
        ("[{\"size\":1}]", "which has no kind"),
        ("[", "EOF"),
        ("[{\"kind\":\"Gain\"}]", "the kind of a block: Gain"),
    ] {
        let bytes = changed(&Network::new(Dense::new(1, 1).unwrap()), |_, metadata| {
            metadata.insert("network".into(), network.into());
        });
        let error = refused(&bytes);
        assert!(error.contains(what), "{error}");
    }
}

/// A block that has an option and no parameters.
#[derive(Debug)]
struct Mine(usize);

impl Block for Mine {
    fn config(&self) -> Config {
        Config::new("Mine").with("size", self.0)
    }
    fn input(&self) -> InputSize {
        InputSize::Features(self.0)
    }
    fn output_size(&self) -> usize {
        self.0
    }
    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        Dense::new(self.0, self.0)?.plan(plan)
    }
}

#[test]
fn blocks_of_ones_own_are_made_by_their_kind() {
    let network = Network::new(Mine(3));
    let bytes =
        network.model(network.parameters().unwrap(), runtime()).unwrap().to_safetensors().unwrap();
    assert!(refused(&bytes).contains("the kind of a block: Mine"));
    let loader = Loader::new().with("Mine", |config| Ok(Mine(config.size("size")?)));
    let model = loader.of_safetensors(&bytes, runtime()).unwrap();
    assert_eq!(model.network().blocks().next().unwrap().config(), Mine(3).config());
    let network = Network::new(Reversed::new(Mine(3)));
    let bytes = init(&network, 1).to_safetensors().unwrap();
    let model = loader.of_safetensors(&bytes, runtime()).unwrap();
    let config = model.network().blocks().next().unwrap().config();
    assert_eq!(config.block("block"), Ok(&Mine(3).config()));
}
