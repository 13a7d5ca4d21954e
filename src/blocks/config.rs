//! The configuration of a block as names and values, for messages and files. Must not know any
//! block.

use crate::Error;
use std::fmt;

/// A message lists at most this many numbers one by one.
const MANY: usize = 8;

/// The kind, the sizes and the options of a block, as files store them and messages show them.
///
/// ```
/// use bptt::{blocks::Block, Lstm};
///
/// let config = Lstm::new(3, 16)?.with_coupled_gates().config();
/// assert_eq!(config.kind(), "Lstm");
/// assert_eq!(config.size("hidden_size")?, 16);
/// println!("{config}");
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    kind: String,
    fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq)]
struct Field {
    name: String,
    value: Value,
    /// Whether the value affects only the initial parameters.
    initial: bool,
}

/// A value in a [`Config`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Whether an option is on.
    Flag(bool),
    /// A size or a count.
    Size(usize),
    /// A number.
    Number(f32),
    /// A word.
    Word(String),
    /// Several sizes.
    Sizes(Vec<usize>),
    /// Several numbers.
    Numbers(Vec<f32>),
    /// A block within this one.
    Block(Box<Config>),
    /// Several blocks within this one.
    Blocks(Vec<Config>),
}

/// Implements `From` for each type that a [`Value`] can hold.
macro_rules! values {
    ($($from:ty => $variant:ident;)+) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        })+
    };
}
values! {
    bool => Flag;
    usize => Size;
    f32 => Number;
    &str => Word;
    String => Word;
    Vec<usize> => Sizes;
    Vec<f32> => Numbers;
    Config => Block;
    Vec<Config> => Blocks;
}

impl Config {
    /// Makes the configuration of a block of this `kind`, which has no values yet.
    pub fn new(kind: &str) -> Self {
        Self { kind: kind.into(), fields: Vec::new() }
    }

    /// Adds a value.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.push(Field { name: name.into(), value: value.into(), initial: false });
        self
    }

    /// Adds a value that affects only the initial parameters: blocks that differ only in this value
    /// compute the same outputs from the same parameters.
    pub fn with_initial(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.push(Field { name: name.into(), value: value.into(), initial: true });
        self
    }

    /// Returns the kind of block.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the names and values, in the order in which they were added.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.fields.iter().map(|field| (field.name.as_str(), &field.value))
    }

    /// Returns the value called `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|field| field.name == name).map(|field| &field.value)
    }

    /// Returns the size called `name`.
    ///
    /// # Errors
    /// [`Error::Value`] if no size has this name.
    pub fn size(&self, name: &str) -> Result<usize, Error> {
        match self.get(name) {
            Some(Value::Size(size)) => Ok(*size),
            other => Err(self.wrong(name, other, "a size")),
        }
    }

    /// Returns the number called `name`. It may be stored as a size.
    ///
    /// # Errors
    /// [`Error::Value`] if no number has this name.
    pub fn number(&self, name: &str) -> Result<f32, Error> {
        match self.get(name) {
            Some(Value::Number(number)) => Ok(*number),
            Some(Value::Size(size)) => Ok(*size as f32),
            other => Err(self.wrong(name, other, "a number")),
        }
    }

    /// Returns whether the option called `name` is on.
    ///
    /// # Errors
    /// [`Error::Value`] if no flag has this name.
    pub fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.get(name) {
            Some(Value::Flag(flag)) => Ok(*flag),
            other => Err(self.wrong(name, other, "true or false")),
        }
    }

    /// Returns the word called `name`.
    ///
    /// # Errors
    /// [`Error::Value`] if no word has this name.
    pub fn word(&self, name: &str) -> Result<&str, Error> {
        match self.get(name) {
            Some(Value::Word(word)) => Ok(word),
            other => Err(self.wrong(name, other, "a word")),
        }
    }

    /// Returns the list of sizes called `name`.
    ///
    /// # Errors
    /// [`Error::Value`] if no list of sizes has this name.
    pub fn sizes(&self, name: &str) -> Result<&[usize], Error> {
        match self.get(name) {
            Some(Value::Sizes(sizes)) => Ok(sizes),
            other => Err(self.wrong(name, other, "a list of sizes")),
        }
    }

    /// Returns the list of numbers called `name`. It may be stored as a list of sizes.
    ///
    /// # Errors
    /// [`Error::Value`] if no list of numbers has this name.
    pub fn numbers(&self, name: &str) -> Result<Vec<f32>, Error> {
        match self.get(name) {
            Some(Value::Numbers(numbers)) => Ok(numbers.clone()),
            Some(Value::Sizes(sizes)) => Ok(sizes.iter().map(|&size| size as f32).collect()),
            other => Err(self.wrong(name, other, "a list of numbers")),
        }
    }

    /// Returns the configuration of the inner block called `name`.
    ///
    /// # Errors
    /// [`Error::Value`] if no block has this name.
    pub fn block(&self, name: &str) -> Result<&Config, Error> {
        match self.get(name) {
            Some(Value::Block(block)) => Ok(block),
            other => Err(self.wrong(name, other, "a block")),
        }
    }

    /// Returns the configurations of the inner blocks called `name`.
    ///
    /// # Errors
    /// [`Error::Value`] if no list of one block or more has this name.
    pub fn blocks(&self, name: &str) -> Result<&[Config], Error> {
        match self.get(name) {
            Some(Value::Blocks(blocks)) if !blocks.is_empty() => Ok(blocks),
            other => Err(self.wrong(name, other, "a list of blocks")),
        }
    }

    /// Returns an error unless every value has one of these `names`, so that no option is silently
    /// ignored.
    ///
    /// # Errors
    /// [`Error::Value`], which names the first value that has another name.
    pub fn expect_only(&self, names: &[&str]) -> Result<(), Error> {
        match self.fields.iter().find(|field| !names.contains(&field.name.as_str())) {
            None => Ok(()),
            Some(field) => Err(Error::Value {
                what: "option",
                given: format!("{} of {}", field.name, self.kind),
                expected: format!("one of {}", names.join(", ")).into(),
            }),
        }
    }

    /// Returns whether blocks of both configurations compute the same outputs from the same
    /// parameters.
    pub(crate) fn computes_as(&self, other: &Self) -> bool {
        let that_matter = |config: &Self| -> Vec<Field> {
            config.fields.iter().filter(|field| !field.initial).cloned().collect()
        };
        let same = |(a, b): (&Field, &Field)| match (&a.value, &b.value) {
            (Value::Block(a_block), Value::Block(b_block)) => {
                a.name == b.name && a_block.computes_as(b_block)
            }
            (Value::Blocks(a_blocks), Value::Blocks(b_blocks)) => {
                let mut pairs = a_blocks.iter().zip(b_blocks);
                a.name == b.name
                    && a_blocks.len() == b_blocks.len()
                    && pairs.all(|(a_block, b_block)| a_block.computes_as(b_block))
            }
            _ => a == b,
        };
        let (mine, others) = (that_matter(self), that_matter(other));
        self.kind == other.kind && mine.len() == others.len() && mine.iter().zip(&others).all(same)
    }

    /// Returns a copy for a message that shows it next to `other`. For a long list of numbers the
    /// message then also gives the first number that differs.
    pub(crate) fn beside(&self, other: &Self) -> Self {
        let value_of = |field: &Field| match (&field.value, other.get(&field.name)) {
            (Value::Numbers(numbers), Some(Value::Numbers(others))) if numbers.len() > MANY => {
                match numbers.iter().zip(others).position(|(number, other)| number != other) {
                    Some(at) => format!("{}, {} at {at}", field.value, numbers[at]).into(),
                    None => field.value.clone(),
                }
            }
            (Value::Block(block), Some(Value::Block(other))) => block.beside(other).into(),
            (Value::Blocks(blocks), Some(Value::Blocks(others))) => {
                let pairs = blocks.iter().enumerate().map(|(nth, block)| match others.get(nth) {
                    Some(other) => block.beside(other),
                    None => block.clone(),
                });
                pairs.collect::<Vec<_>>().into()
            }
            (value, _) => value.clone(),
        };
        let beside = |field: &Field| Field { value: value_of(field), ..field.clone() };
        Self { kind: self.kind.clone(), fields: self.fields.iter().map(beside).collect() }
    }

    #[cold]
    fn wrong(&self, name: &str, given: Option<&Value>, expected: &str) -> Error {
        let given = given.map_or("missing".into(), Value::to_string);
        let given = format!("{name} of {}: {given}", self.kind);
        Error::Value { what: "configuration", given, expected: expected.to_string().into() }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {{", self.kind)?;
        for (nth, Field { name, value, .. }) in self.fields.iter().enumerate() {
            write!(f, "{} {name}: {value}", if nth == 0 { "" } else { "," })?;
        }
        write!(f, " }}")
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Size(size) => size.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Word(word) => word.fmt(f),
            Self::Sizes(sizes) => write!(f, "{sizes:?}"),
            Self::Numbers(numbers) if numbers.len() > MANY => {
                write!(f, "{} numbers", numbers.len())
            }
            Self::Numbers(numbers) => write!(f, "{numbers:?}"),
            Self::Block(block) => block.fmt(f),
            Self::Blocks(blocks) => {
                let blocks: Vec<_> = blocks.iter().map(Config::to_string).collect();
                write!(f, "[{}]", blocks.join(", "))
            }
        }
    }
}
