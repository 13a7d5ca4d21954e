//! Memory that the system refuses gives an error. Everything is as before then, and the same call
//! succeeds once there is memory.
//!
//! The test runs itself in processes with limited memory, from too little for the parameters to
//! enough for everything.

use bptt::{
    Accumulate, Adam, Dense, Error, Format, Lstm, Model, Network, Parameters, Runtime, Schedule,
    SquaredError, Stream, Workspace,
};
use bptt_reference::sample::uniform;
use rand::{SeedableRng, rngs::SmallRng};
use std::collections::BTreeSet;
use std::process::Command;

/// The environment variable that marks such a process, which then holds memory back that it can
/// release.
const CHILD: &str = "BPTT_TEST_REFUSED";

const THIS: &str = "refused::memory_that_is_refused_is_an_error";

/// More bytes than any two calls need.
const HELD_BACK: usize = 32 << 20;

const SCHEDULE: (usize, usize) = (20, 16);
const INPUTS: usize = 128;
const SEQUENCES: usize = 400;

/// The results of the calls, one after the other, and their inputs, which exist from the start.
struct Made {
    parameters: Option<Parameters>,
    model: Option<Model>,
    workspace: Option<Workspace>,
    adam: Adam,
    stream: Option<Stream>,
    quantised: Option<Model>,
    x: Vec<f32>,
    targets: Vec<f32>,
    y: Vec<f32>,
    hash: u64,
}

impl Made {
    fn new() -> Self {
        let (steps, batch) = SCHEDULE;
        Self {
            parameters: None,
            model: None,
            workspace: None,
            adam: Adam::new(1e-3),
            stream: None,
            quantised: None,
            x: uniform(2, SEQUENCES.max(steps * batch) * INPUTS, 1.0),
            targets: vec![0.5; steps * batch],
            y: vec![0.0; SEQUENCES],
            hash: 0,
        }
    }
}

/// Adds the bits of some numbers to a hash.
fn take(hash: &mut u64, values: &[f32]) {
    for value in values {
        let mixed = (*hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3);
        *hash = mixed.rotate_left(7);
    }
}

type Call = fn(&Network, &mut Made) -> Result<(), Error>;

fn init(network: &Network, made: &mut Made) -> Result<(), Error> {
    let mut rng = SmallRng::seed_from_u64(1);
    made.model = Some(network.init(&mut rng, Runtime::best()?)?);
    Ok(())
}

fn parameters(network: &Network, made: &mut Made) -> Result<(), Error> {
    made.parameters = Some(network.parameters()?);
    Ok(())
}

fn workspace(_: &Network, made: &mut Made) -> Result<(), Error> {
    let (steps, batch) = SCHEDULE;
    let training = made.model.as_mut().unwrap().training(Schedule::dense(steps, batch));
    made.workspace = Some(training.with_input_gradients().workspace()?);
    Ok(())
}

/// An update. The first one allocates the moments; the next one allocates parameters of the model's
/// own if a stream has the earlier ones.
fn train(_: &Network, made: &mut Made) -> Result<(), Error> {
    let Made { model, workspace, adam, x, targets, hash, .. } = made;
    let (model, workspace) = (model.as_mut().unwrap(), workspace.as_mut().unwrap());
    let (x, loss) = (&x[..targets.len() * INPUTS], SquaredError::mean(targets));
    model.train(workspace, x, &loss, adam)?;
    model.gradients(workspace, x, &loss, Accumulate::No)?;
    take(hash, workspace.gradients().as_slice());
    Ok(())
}

fn stream(_: &Network, made: &mut Made) -> Result<(), Error> {
    made.stream = Some(made.model.as_ref().unwrap().stream(SEQUENCES)?);
    Ok(())
}

fn step(_: &Network, made: &mut Made) -> Result<(), Error> {
    let Made { stream, x, y, hash, .. } = made;
    stream.as_mut().unwrap().step(&x[..SEQUENCES * INPUTS], y)?;
    take(hash, y);
    Ok(())
}

fn quantised(_: &Network, made: &mut Made) -> Result<(), Error> {
    let quantised = made.model.as_ref().unwrap().quantised(Format::Bf16)?;
    let (mut stream, mut y) = (quantised.stream(1)?, [0.0]);
    stream.step(&made.x[..INPUTS], &mut y)?;
    take(&mut made.hash, &y);
    made.quantised = Some(quantised);
    Ok(())
}

const CALLS: [(&str, Call); 8] = [
    ("parameters", parameters),
    ("init", init),
    ("workspace", workspace),
    ("train", train),
    ("stream", stream),
    ("train beside a stream", train),
    ("step", step),
    ("quantised", quantised),
];

/// Runs the calls, each again after it was refused, and prints the refused calls and the results.
fn all_calls() {
    let lstm = Lstm::new(INPUTS, 256).unwrap();
    let network = Network::new(lstm).then(Dense::new(256, 1).unwrap());
    let (mut made, mut held_back) = (Made::new(), vec![1u8; HELD_BACK]);
    println!("begins with {}", address_space());
    for (name, call) in CALLS {
        let mut result = call(&network, &mut made);
        if let Err(error) = &result {
            assert!(matches!(error, Error::OutOfMemory { .. }), "{name}: {error}");
            println!("refused {name}");
            held_back = Vec::new();
            result = call(&network, &mut made);
        }
        result.unwrap();
    }
    println!("ends with {}", address_space());
    println!("made {:x}", made.hash);
    drop(held_back);
}

/// KiB of this process's address space, which is the quantity that the system limits.
fn address_space() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// The lines that the calls print in a process that may have `limit` KiB.
fn run(limit: Option<usize>) -> Vec<String> {
    let limit = limit.map_or("unlimited".into(), |limit| limit.to_string());
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v $0 && exec \"$@\"", &limit]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", THIS, "--nocapture", "--test-threads", "1"]).env(CHILD, "1");
    // Large blocks always come from the system, and small ones need not.
    command.envs([("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "131072")]);
    command.envs([("MALLOC_TOP_PAD_", "1048576"), ("MALLOC_TRIM_THRESHOLD_", "268435456")]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "with {limit} KiB: {text}\n{errors}");
    text.lines().map(String::from).collect()
}

/// The rest of the line that begins with `start`.
fn after<'a>(lines: &'a [String], start: &str) -> &'a str {
    let found = lines.iter().find_map(|line| Some(line.split_once(start)?.1));
    found.unwrap_or_else(|| panic!("no {start:?} in {lines:?}"))
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "the system has no limit that the shell sets")]
fn memory_that_is_refused_is_an_error() {
    if std::env::var_os(CHILD).is_some() {
        return all_calls();
    }
    if crate::common::is_slow() {
        return crate::common::say("NOT run with little memory: an emulator has its own needs");
    }
    let free = run(None);
    assert!(!free.iter().any(|line| line.contains("refused ")), "{free:?}");
    let [begin, end]: [usize; 2] =
        ["begins with ", "ends with "].map(|start| after(&free, start).parse().unwrap());
    let mut refused = BTreeSet::new();
    for limit in (begin + 256..end + 1024).step_by(768) {
        let lines = run(Some(limit));
        assert_eq!(after(&lines, "made "), after(&free, "made "), "with {limit} KiB");
        let names = lines.iter().filter_map(|line| line.split_once("refused "));
        refused.extend(names.map(|(_, name)| name.to_string()));
    }
    // A step needs no more memory.
    for (name, _) in CALLS {
        assert_eq!(refused.contains(name), name != "step", "{name}: {refused:?}");
    }
}
