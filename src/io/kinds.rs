//! Makes blocks from configurations, by their kind. Knows all kinds of blocks; must not know the
//! format of files.

use crate::Error;
use crate::blocks::clockwork::Clockwork;
use crate::blocks::recurrent::{
    Delayed, Gru, Layer, LayerNorm, Leaky, Lstm, Recurrent, Regularised, Skip, Vanilla,
};
use crate::blocks::scan::{IndRnn, MinGru, MinLstm, Qrnn, RgLru, Sru};
use crate::blocks::slstm::Slstm;
use crate::blocks::{
    Attention, Block, Config, Context, Dense, Dropout, Embedding, Identity, LayerNormalization,
    Pool, Window,
};
use crate::containers::{
    AttentionWrapper, Bidirectional, Choice, DeepTransition, Keys, OutputRecurrent, Parallel,
    Residual, Reversed, Stack,
};
use crate::regularisation::Regularisation;
use std::fmt;
use std::sync::Arc;

type Make = Box<dyn Fn(&Config) -> Result<Arc<dyn Block>, Error>>;

/// Loads models from files that contain blocks of your own. [`Model::load`](crate::Model::load)
/// knows only the blocks of this crate; a loader also knows the kinds that are added to it.
///
/// ```
/// use bptt::blocks::{Block, Config};
/// use bptt::{Loader, Lstm};
///
/// let loader = Loader::new().with("Mine", |config: &Config| Lstm::new(config.size("size")?, 4));
/// # let _ = loader;
/// ```
#[derive(Default)]
pub struct Loader {
    kinds: Vec<(String, Make)>,
}

impl Loader {
    /// Makes a loader that knows the blocks of this crate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the blocks of `kind`, which `make` makes from their configurations.
    pub fn with<B: Block>(
        mut self,
        kind: &str,
        make: impl Fn(&Config) -> Result<B, Error> + 'static,
    ) -> Self {
        let make: Make = Box::new(move |config| Ok(Arc::new(make(config)?)));
        self.kinds.push((kind.into(), make));
        self
    }

    /// Makes the block that `config` describes. Kinds that were added come before those of this
    /// crate.
    pub(super) fn block(&self, config: &Config) -> Result<Arc<dyn Block>, Error> {
        if let Some((_, make)) = self.kinds.iter().find(|(kind, _)| kind == config.kind()) {
            return make(config);
        }
        Ok(match config.kind() {
            "Dense" => Arc::new(Dense::from_config(config)?),
            "Embedding" => Arc::new(Embedding::from_config(config)?),
            "MinGru" => Arc::new(MinGru::from_config(config)?),
            "MinLstm" => Arc::new(MinLstm::from_config(config)?),
            "Sru" => Arc::new(Sru::from_config(config)?),
            "Qrnn" => Arc::new(Qrnn::from_config(config)?),
            "IndRnn" => Arc::new(IndRnn::from_config(config)?),
            "RgLru" => Arc::new(RgLru::from_config(config)?),
            "Slstm" => Arc::new(Slstm::from_config(config)?),
            "Clockwork" => Arc::new(Clockwork::from_config(config)?),
            "Reversed" => {
                config.expect_only(&["block"])?;
                Arc::new(Reversed::of(self.block(config.block("block")?)?))
            }
            "Pool" => Arc::new(Pool::from_config(config)?),
            "Dropout" => Arc::new(Dropout::from_config(config)?),
            "LayerNormalization" => Arc::new(LayerNormalization::from_config(config)?),
            "Identity" => Arc::new(Identity::from_config(config)?),
            "Attention" => Arc::new(Attention::from_config(config)?),
            "Context" => Arc::new(Context::from_config(config)?),
            "Window" => Arc::new(Window::from_config(config)?),
            "Keys" => Arc::new(Keys::from_config(config)?),
            "DeepTransition" => {
                config.expect_only(&["block"])?;
                Arc::new(DeepTransition::of(self.block(config.block("block")?)?)?)
            }
            "AttentionWrapper" => {
                config.expect_only(&["block", "attention"])?;
                let attention = Attention::from_config(config.block("attention")?)?;
                let block = self.block(config.block("block")?)?;
                Arc::new(AttentionWrapper::of(block, attention)?)
            }
            "Bidirectional" => {
                config.expect_only(&["forward", "reverse", "summed"])?;
                let forward = self.block(config.block("forward")?)?;
                let reverse = self.block(config.block("reverse")?)?;
                Arc::new(Bidirectional::of(forward, reverse, config.flag("summed")?))
            }
            "OutputRecurrent" => {
                config.expect_only(&["block", "choice"])?;
                let block = OutputRecurrent::of(self.block(config.block("block")?)?)?;
                Arc::new(block.with_choice(Choice::of(config)?))
            }
            "Residual" => {
                config.expect_only(&["block"])?;
                Arc::new(Residual::of(self.block(config.block("block")?)?)?)
            }
            "Parallel" => {
                config.expect_only(&["blocks", "summed"])?;
                let blocks = self.blocks(config.blocks("blocks")?)?;
                Arc::new(Parallel::of(blocks, config.flag("summed")?))
            }
            "Stack" => {
                config.expect_only(&["blocks"])?;
                Arc::new(Stack::of(self.blocks(config.blocks("blocks")?)?))
            }
            _ => Arc::new(layer(config)?),
        })
    }

    /// Makes the blocks that `configs` describe.
    pub(super) fn blocks(&self, configs: &[Config]) -> Result<Vec<Arc<dyn Block>>, Error> {
        configs.iter().map(|config| self.block(config)).collect()
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.kinds.iter().map(|(kind, _)| kind)).finish()
    }
}

/// Makes the recurrent layer that `config` describes.
fn layer(config: &Config) -> Result<Recurrent, Error> {
    Ok(match config.kind() {
        "Vanilla" => Vanilla::from_config(config)?.recurrent(),
        "Leaky" => Leaky::from_config(config)?.recurrent(),
        "Skip" => Skip::from_config(config)?.recurrent(),
        "Gru" => Gru::from_config(config)?.recurrent(),
        "Lstm" => Lstm::from_config(config)?.recurrent(),
        "Delayed" => {
            config.expect_only(&["layer"])?;
            Delayed::new(layer(config.block("layer")?)?)?.recurrent()
        }
        "LayerNorm" => {
            config.expect_only(&["layer", "epsilon"])?;
            let normalised = LayerNorm::new(layer(config.block("layer")?)?)?;
            normalised.with_epsilon(config.number("epsilon")?)?.recurrent()
        }
        "Regularised" => {
            config.expect_only(&["layer", "dropout", "zoneout_hidden", "zoneout_cell"])?;
            let (hidden, cell) = (config.number("zoneout_hidden")?, config.number("zoneout_cell")?);
            let noise = Regularisation::none()
                .with_dropout(config.number("dropout")?)?
                .with_zoneout(hidden, cell)?;
            Regularised::new(layer(config.block("layer")?)?, noise)?.recurrent()
        }
        other => {
            return Err(Error::File {
                what: "the kind of a block".into(),
                given: other.into(),
                expected: "a kind of this crate, or one added with Loader::with".into(),
            });
        }
    })
}
