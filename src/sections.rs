//! Where the parameters of a layer lie in their one buffer, by name. Knows lengths; must not know
//! cells.

use crate::arena::{Layout, Region, regions};
use crate::{Error, layer::Sizes};

regions! {
    /// All parameters of a layer, in their order.
    pub struct All {
        /// U.
        input,
        /// W.
        recurrent,
        /// b.
        bias,
        /// The layer's own.
        own,
        /// P.
        projection,
    }
}

regions! {
    /// What a layer has of its own, in blocks of H: their numbers, or where they lie in the
    /// section of its own.
    pub struct Own {
        /// The bias of the extra block: of a GRU with its reset gate after the product.
        extra_bias,
        /// Vectors whose gradients are sums over time of element-wise products: peepholes, ρ.
        diagonal,
        /// The gains of the gates where they are normalised, and of the extra block.
        gain,
        extra_gain,
    }
}
