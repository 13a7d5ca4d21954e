//! Configurations of blocks as JSON: each is an object with the block's kind, and a member for each
//! option. Must not know which kinds there are.

use crate::Error;
use crate::blocks::{Config, Value};
use serde_json::{Map, Number, Value as Json};

/// The name of the member that holds a block's kind.
const KIND: &str = "kind";

/// Writes the configurations of a network's blocks as JSON text.
pub(super) fn to_text(configs: &[Config]) -> String {
    Json::Array(configs.iter().map(to_json).collect()).to_string()
}

/// Reads the configurations of a network's blocks from JSON text.
pub(super) fn of_text(text: &str) -> Result<Vec<Config>, Error> {
    let json: Json = serde_json::from_str(text).map_err(|error| refused(&error.to_string()))?;
    let Json::Array(blocks) = json else { return Err(refused("no list of blocks")) };
    blocks.iter().map(of_json).collect()
}

fn to_json(config: &Config) -> Json {
    let mut object = Map::new();
    object.insert(KIND.into(), config.kind().into());
    object.extend(config.fields().map(|(name, value)| (name.into(), value_to_json(value))));
    Json::Object(object)
}

fn value_to_json(value: &Value) -> Json {
    match value {
        Value::Flag(flag) => (*flag).into(),
        Value::Size(size) => (*size).into(),
        Value::Number(number) => number_to_json(*number),
        Value::Word(word) => word.as_str().into(),
        Value::Sizes(sizes) => sizes.iter().copied().map(Json::from).collect(),
        Value::Numbers(numbers) => numbers.iter().copied().map(number_to_json).collect(),
        Value::Block(block) => to_json(block),
        Value::Blocks(blocks) => blocks.iter().map(to_json).collect(),
    }
}

/// Writes an f32 as the shortest decimal that gives the same f32 when it is read as f64 and
/// rounded; if that fails, as its exact value in f64.
fn number_to_json(number: f32) -> Json {
    let short = number.to_string().parse().unwrap_or(f64::from(number));
    let value = if short as f32 == number { short } else { f64::from(number) };
    Number::from_f64(value).map_or(Json::Null, Json::Number)
}

fn of_json(json: &Json) -> Result<Config, Error> {
    let object = json.as_object().ok_or_else(|| refused(&format!("{json}, which is no block")))?;
    let kind = object.get(KIND).and_then(Json::as_str);
    let kind = kind.ok_or_else(|| refused(&format!("{json}, which has no kind")))?;
    let mut config = Config::new(kind);
    for (name, value) in object.iter().filter(|(name, _)| *name != KIND) {
        let read = value_of_json(value)?;
        config = config.with(name, read.ok_or_else(|| refused(&format!("{name}: {value}")))?);
    }
    Ok(config)
}

fn value_of_json(json: &Json) -> Result<Option<Value>, Error> {
    let size = |json: &Json| json.as_u64().and_then(|size| usize::try_from(size).ok());
    Ok(match json {
        Json::Bool(flag) => Some(Value::Flag(*flag)),
        Json::Number(number) => match size(json) {
            Some(size) => Some(Value::Size(size)),
            None => number.as_f64().map(|number| Value::Number(number as f32)),
        },
        Json::String(word) => Some(Value::Word(word.clone())),
        Json::Array(all) if all.first().is_some_and(Json::is_object) => {
            let blocks: Result<Vec<_>, Error> = all.iter().map(of_json).collect();
            Some(Value::Blocks(blocks?))
        }
        Json::Array(all) => match all.iter().map(size).collect() {
            Some(sizes) => Some(Value::Sizes(sizes)),
            None => {
                let numbers: Option<Vec<f32>> =
                    all.iter().map(|json| json.as_f64().map(|number| number as f32)).collect();
                numbers.map(Value::Numbers)
            }
        },
        Json::Object(_) => Some(Value::Block(Box::new(of_json(json)?))),
        Json::Null => None,
    })
}

fn refused(given: &str) -> Error {
    Error::File {
        what: "the configuration".into(),
        given: given.into(),
        expected: "a list of blocks, each with its kind and options".into(),
    }
}
