//! The list of the types of functions that cells are compiled for.

/// Makes the items that are given once for each type of [`Functions`](super::Functions), which they
/// call `F`.
///
/// With a type parameter in place of the macro, the compiler would inline the functions at another
/// time, and the machine code of the usual cells would change.
macro_rules! for_each_functions {
    ($($item:tt)*) => {
        const _: () = {
            type F = $crate::cells::Activations;
            $($item)*
        };
        const _: () = {
            type F = $crate::cells::Hard;
            $($item)*
        };
    };
}
pub(super) use for_each_functions;
