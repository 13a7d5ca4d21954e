//! Keys of attention beside the values that they stand for. Must not know attention.

use super::parallel::{Branches, Direction, Merge};
use crate::Error;
use crate::blocks::{Config, Dense, Identity, delegate_block};
use std::sync::Arc;

/// Appends a key to each row: `[v, b + U v]`. As the last block of an encoder it computes the keys of
/// [additive attention](crate::Attention::additive) for all rows at once.
///
/// Its parameters are `key.weight` `[K, V]` and `key.bias` `[K]`. A pass keeps what a
/// [`Parallel`](crate::Parallel) of [`Identity`] and [`Dense`] keeps.
///
/// ```
/// use bptt::{Keys, Network};
///
/// let network = Network::new(Keys::new(4, 3)?);
/// assert_eq!(network.manifest()?.to_string(), "0.key.weight [3, 4], 0.key.bias [3]");
/// assert_eq!(network.output_size(), 4 + 3);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Keys {
    branches: Branches,
    value_size: usize,
    key_size: usize,
}

impl Keys {
    /// Appends keys of `key_size` (K) features to values of `value_size` (V).
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0, [`Error::TooLarge`] if the weights do not fit the address space.
    pub fn new(value_size: usize, key_size: usize) -> Result<Self, Error> {
        let (value, key) = (Identity::new(value_size)?, Dense::new(value_size, key_size)?);
        let branches = Branches::new(Merge::Concatenate)
            .with(Some("value"), Arc::new(value), Direction::Forward)
            .with(Some("key"), Arc::new(key), Direction::Forward);
        Ok(Self { branches, value_size, key_size })
    }

    /// Builds the block from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["value_size", "key_size"])?;
        Self::new(config.size("value_size")?, config.size("key_size")?)
    }

    fn described(&self) -> Config {
        let config = Config::new("Keys").with("value_size", self.value_size);
        config.with("key_size", self.key_size)
    }
}

delegate_block!(Keys, |this| this.branches, config: this.described());
