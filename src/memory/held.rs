//! The memory that a workspace holds: allocated for it, or handed in. Knows bytes and alignment; must
//! not know what lies in them.

use crate::Error;
use bptt_kernels::{ALIGNMENT, AlignedBuffer};
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Memory for a [`Workspace`](crate::Workspace), for callers who do not want it allocated for each:
/// from a pool, in a static array, or mapped by the operating system.
///
/// [`Training::workspace_in`](crate::Training::workspace_in) makes a workspace in it, and
/// [`Workspace::into_memory`](crate::Workspace::into_memory) hands it back for the next one, which may
/// belong to another model.
///
/// ```
/// use bptt::{Lstm, Memory, Network, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// #[repr(align(64))]
/// struct Arena([u8; 1 << 16]);
/// let arena: &'static mut Arena = Box::leak(Box::new(Arena([0; 1 << 16])));
///
/// let mut memory = Memory::of(&mut arena.0[..])?;
/// for hidden_size in [4, 8] {
///     let network = Network::new(Lstm::new(1, hidden_size)?);
///     let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
///     let training = model.training(Schedule::dense(20, 1));
///     assert!(training.bytes()? <= memory.bytes());
///     let mut workspace = training.workspace_in(memory)?;
///     model.forward(&mut workspace, &[0.5; 20])?;
///     memory = workspace.into_memory();
/// }
/// # Ok::<(), bptt::Error>(())
/// ```
pub struct Memory(Owner);

enum Owner {
    Allocated(AlignedBuffer),
    Given { bytes: Box<dyn Bytes>, len: usize },
}

trait Bytes: AsRef<[u8]> + AsMut<[u8]> + Send + Sync {}

impl<T: AsRef<[u8]> + AsMut<[u8]> + Send + Sync> Bytes for T {}

impl Memory {
    /// Takes over `bytes`, with any content. They may be a `&'static mut [u8]`, or anything that owns
    /// them, such as a memory map. The last bytes are left alone if they make no whole f32.
    ///
    /// `bytes` must lie at the same place whenever it is asked for them, as all types of the standard
    /// library do. With one that does not, passes panic or compute nonsense, but touch no other memory.
    ///
    /// # Errors
    /// [`Error::Value`] unless the address is a multiple of 64, the bytes of a cache line.
    pub fn of(
        mut bytes: impl AsRef<[u8]> + AsMut<[u8]> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let slice = bytes.as_mut();
        let beyond = slice.as_ptr().addr() % ALIGNMENT;
        if beyond > 0 && !slice.is_empty() {
            return Err(Error::Value {
                what: "the address of the memory",
                given: format!("{beyond} bytes beyond a multiple of {ALIGNMENT}"),
                expected: format!("a multiple of {ALIGNMENT}").into(),
            });
        }
        let len = slice.len() - slice.len() % size_of::<f32>();
        Ok(Self(Owner::Given { bytes: Box::new(bytes), len }))
    }

    /// Returns the number of bytes.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Owner::Allocated(buffer) => size_of_val::<[f32]>(buffer),
            Owner::Given { len, .. } => *len,
        }
    }
}

impl From<AlignedBuffer> for Memory {
    fn from(buffer: AlignedBuffer) -> Self {
        Self(Owner::Allocated(buffer))
    }
}

impl Deref for Memory {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Owner::Allocated(buffer) => buffer,
            Owner::Given { bytes, len } => bytemuck::cast_slice(&(**bytes).as_ref()[..*len]),
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [f32] {
        match &mut self.0 {
            Owner::Allocated(buffer) => buffer,
            Owner::Given { bytes, len } => {
                bytemuck::cast_slice_mut(&mut (**bytes).as_mut()[..*len])
            }
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = match self.0 {
            Owner::Allocated(_) => "allocated",
            Owner::Given { .. } => "given",
        };
        write!(f, "Memory({} bytes, {owner})", self.bytes())
    }
}
