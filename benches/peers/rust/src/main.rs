//! The Rust contenders: `bptt-peers NAME` answers requests, a line of JSON each, as
//! benches/peers/README.md has them.

mod bptt;
#[cfg(feature = "burn")]
mod burn;
#[cfg(feature = "candle")]
mod candle;
mod machine;
mod network;
mod problem;
mod timing;
mod unfused;

use problem::{Contender, Fallible, Problem, Setup, write};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::PathBuf;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Request {
    Setup(Setup),
    Network(network::Setup),
    Check { dir: PathBuf },
    Round { seconds: f64 },
    Peak { seconds: f64, threads: usize },
    Bandwidth { bytes: usize, seconds: f64, threads: usize },
    Free,
}

/// What makes a contender ready: the error is why it cannot take part.
type Prepare = fn(Problem) -> Fallible<Box<dyn Contender>>;

fn main() -> Fallible<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    let prepare: Prepare = match name.as_str() {
        "bptt" => bptt::prepare,
        "unfused" => unfused::prepare,
        #[cfg(feature = "candle")]
        "candle" => candle::prepare,
        #[cfg(feature = "burn")]
        "burn" => burn::prepare,
        _ => return Err("usage: bptt-peers bptt | unfused | candle | burn".into()),
    };
    let mut contender = None;
    for line in std::io::stdin().lock().lines() {
        let answer = answer(&line?, prepare, &mut contender)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }));
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn answer(
    line: &str,
    prepare: Prepare,
    contender: &mut Option<Box<dyn Contender>>,
) -> Fallible<Value> {
    match serde_json::from_str(line)? {
        Request::Setup(setup) => {
            // The last problem's memory first.
            *contender = None;
            match prepare(Problem::load(setup)?) {
                Ok(ready) => *contender = Some(ready),
                Err(why) => return Ok(json!({ "unsupported": why.to_string() })),
            }
        }
        // This crate's alone.
        Request::Network(setup) => {
            *contender = None;
            *contender = Some(network::prepare(setup)?);
        }
        Request::Check { dir } => {
            let contender = contender.as_mut().ok_or("no setup yet")?;
            contender.pass()?;
            for (name, values) in contender.results()? {
                write(&dir.join(format!("{name}.bin")), &values)?;
            }
        }
        Request::Round { seconds } => {
            let contender = contender.as_mut().ok_or("no setup yet")?;
            return timing::round(contender.as_mut(), seconds);
        }
        Request::Peak { seconds, threads } => {
            return Ok(json!({ "gflops": machine::peak(seconds, threads)? }));
        }
        Request::Bandwidth { bytes, seconds, threads } => {
            return Ok(json!({ "gbytes": machine::bandwidth(bytes, seconds, threads)? }));
        }
        Request::Free => *contender = None,
    }
    Ok(json!({ "ok": true }))
}
