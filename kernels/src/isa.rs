//! Lists the instruction sets, detects which of them this CPU has, and is the only way into a
//! kernel. Knows the list of [`Simd`](crate::simd::Simd) tokens; must not know what any kernel
//! computes.

use crate::simd::{self, Kernel, Simd};
use std::fmt;
use std::sync::OnceLock;

/// The environment variable that forces an instruction set by [name](Isa::name). An empty value
/// counts as unset.
pub const ISA_VARIABLE: &str = "BPTT_ISA";

/// An instruction set that has been detected on this CPU.
///
/// A value can only come from [`Isa::best`], [`Isa::available`] or [`Isa::named`], each of which
/// detects first; holding one is the proof that its kernels may run.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isa(Kind);

/// The error where `BPTT_ISA` or [`Isa::named`] asks for an instruction set that is unknown or that
/// this CPU lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsaError {
    /// The name that was asked for.
    pub given: String,
    /// The environment variable that asked for it, or `None` if the program did.
    pub variable: Option<&'static str>,
    /// The names of the instruction sets that this CPU has, best first.
    pub available: Vec<&'static str>,
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { given, variable, available } = self;
        if let Some(variable) = variable {
            write!(f, "{variable}: ")?;
        }
        let available = available.join(", ");
        write!(f, "instruction set {given:?} is not available; this CPU has: {available}")
    }
}

impl std::error::Error for IsaError {}

/// The table: one row per instruction set, best first. Only the module of a row lists its features.
macro_rules! isas {
    ($($(#[$cfg:meta])* $kind:ident, $module:ident :: $token:ident, $name:literal;)+) => {
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        enum Kind { $($(#[$cfg])* $kind),+ }

        fn detect() -> Vec<Isa> {
            let mut found = Vec::new();
            $($(#[$cfg])* if simd::$module::detect() { found.push(Isa(Kind::$kind)); })+
            found
        }

        impl Isa {
            /// Returns the name, as `BPTT_ISA` takes it.
            pub fn name(self) -> &'static str {
                match self.0 { $($(#[$cfg])* Kind::$kind => $name),+ }
            }

            /// Returns the number of f32 lanes in a vector.
            pub fn lanes(self) -> usize {
                match self.0 { $($(#[$cfg])* Kind::$kind => <simd::$module::$token as Simd>::LANES),+ }
            }

            pub(crate) fn enter<K: Kernel>(self, kernel: K) -> K::Output {
                match self.0 {
                    // SAFETY: only `detect` makes an `Isa`, after it has found that
                    // the CPU has the features of this row, and `portable`, which has none.
                    $($(#[$cfg])* Kind::$kind => unsafe { simd::$module::enter(kernel) }),+
                }
            }
        }
    };
}

isas! {
    #[cfg(target_arch = "x86_64")] Avx512, avx512::Avx512, "avx512";
    #[cfg(target_arch = "x86_64")] Avx2, avx2::Avx2, "avx2";
    #[cfg(target_arch = "aarch64")] Neon, neon::Neon, "neon";
    Portable, portable::Portable, "portable";
}

impl Isa {
    /// Returns the instruction set that every CPU has.
    pub(crate) fn portable() -> Isa {
        Isa(Kind::Portable)
    }

    /// Returns the instruction sets that this CPU has, best first. They are detected once per
    /// process.
    pub fn available() -> &'static [Isa] {
        static FOUND: OnceLock<Vec<Isa>> = OnceLock::new();
        FOUND.get_or_init(detect)
    }

    /// Returns the instruction set that `BPTT_ISA` names, if it is set and not empty, else the best
    /// that this CPU has. The variable is read once per process.
    ///
    /// # Errors
    /// [`IsaError`] if `BPTT_ISA` names an instruction set that is unknown or that this CPU lacks.
    pub fn best() -> Result<Isa, IsaError> {
        static BEST: OnceLock<Result<Isa, IsaError>> = OnceLock::new();
        BEST.get_or_init(|| match std::env::var_os(ISA_VARIABLE) {
            Some(name) if !name.is_empty() => Isa::named(&name.to_string_lossy())
                .map_err(|error| IsaError { variable: Some(ISA_VARIABLE), ..error }),
            _ => Ok(Isa::available()[0]),
        })
        .clone()
    }

    /// Returns the instruction set with this name.
    ///
    /// # Errors
    /// [`IsaError`] if it is unknown or this CPU lacks it.
    pub fn named(name: &str) -> Result<Isa, IsaError> {
        let available = Isa::available();
        available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| IsaError {
            given: name.to_owned(),
            variable: None,
            available: available.iter().map(|isa| isa.name()).collect(),
        })
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Isa({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_is_always_last() {
        assert_eq!(Isa::available().last().unwrap().name(), "portable");
    }

    #[test]
    fn an_absent_instruction_set_is_an_error_that_lists_the_present_ones() {
        let error = Isa::named("mmx").unwrap_err();
        assert_eq!(error.given, "mmx");
        assert!(error.to_string().contains("portable"));
        for isa in Isa::available() {
            assert_eq!(Isa::named(isa.name()), Ok(*isa));
            assert!(error.available.contains(&isa.name()));
        }
    }
}
