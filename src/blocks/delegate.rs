//! Blocks that hand everything on to a block within. Must not know any block.

use super::Block;
use super::recurrent::Recurrent;
use std::sync::Arc;

/// Implements [`Block`] for a type by the block `$inner` of a value `$this`. Only the configuration is
/// the type's own. Further methods can follow.
macro_rules! delegate_block {
    ($block:ty, |$this:ident| $inner:expr, config: $config:expr $(, $more:item)*) => {
        impl $crate::blocks::Block for $block {
            fn config(&self) -> $crate::blocks::Config {
                let $this = self;
                $config
            }

            fn input(&self) -> $crate::InputSize {
                let $this = self;
                $inner.input()
            }

            fn output_size(&self) -> usize {
                let $this = self;
                $inner.output_size()
            }

            fn parameters(&self, manifest: &mut $crate::Manifest) -> Result<(), $crate::Error> {
                let $this = self;
                $inner.parameters(manifest)
            }

            fn state(
                &self,
                batch: usize,
                manifest: &mut $crate::Manifest,
            ) -> Result<(), $crate::Error> {
                let $this = self;
                $inner.state(batch, manifest)
            }

            fn is_causal(&self) -> bool {
                let $this = self;
                $inner.is_causal()
            }

            fn is_row_wise(&self) -> bool {
                let $this = self;
                $inner.is_row_wise()
            }

            fn reads_step(&self) -> bool {
                let $this = self;
                $inner.reads_step()
            }

            fn initialise(
                &self,
                parameters: &mut [f32],
                init: $crate::Init,
                rng: &mut dyn rand_core::Rng,
            ) -> Result<(), $crate::Error> {
                let $this = self;
                $inner.initialise(parameters, init, rng)
            }

            fn pack(
                &self,
                format: $crate::Format,
                runtime: $crate::Runtime,
            ) -> Result<Box<dyn $crate::blocks::Packed>, $crate::Error> {
                let $this = self;
                $inner.pack(format, runtime)
            }

            fn plan(
                &self,
                plan: &mut $crate::blocks::Plan<'_>,
            ) -> Result<Box<dyn $crate::blocks::Pass>, $crate::Error> {
                let $this = self;
                $inner.plan(plan)
            }

            fn output_in_state(&self) -> Option<usize> {
                let $this = self;
                $inner.output_in_state()
            }

            fn check_source(
                &self,
                source: Option<$crate::blocks::SourceSize>,
            ) -> Result<(), $crate::Error> {
                let $this = self;
                $inner.check_source(source)
            }

            fn stream(
                &self,
                plan: &mut $crate::blocks::StreamPlan<'_>,
            ) -> Result<Box<dyn $crate::blocks::Steps>, $crate::Error> {
                let $this = self;
                $inner.stream(plan)
            }

            $($more)*
        }
    };
}
pub(crate) use delegate_block;

// A block whose type is known only when the program runs.
delegate_block!(
    Arc<dyn Block>,
    |this| (**this),
    config: (**this).config(),
    fn as_recurrent(&self) -> Option<Recurrent> {
        (**self).as_recurrent()
    }
);
