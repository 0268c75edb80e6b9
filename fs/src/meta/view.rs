//! Reading the key tree: what planning code sees.

use std::ops::ControlFlow;

use crate::error::Result;
use crate::format::key::Key;
use crate::format::value::Value;

/// A consistent state of the key tree.
///
/// Any call may answer [`crate::error::Error::NodeMiss`]; pass it on with `?`. The volume then loads the node without
/// holding a lock and runs the plan again from its beginning, so a plan must not have side effects.
pub trait View {
    fn get(&self, key: &Key) -> Result<Option<Value>>;

    /// The item with the largest key `<= key`, whatever its inode and kind.
    fn floor(&self, key: &Key) -> Result<Option<(Key, Value)>>;

    /// Visits the items of `from..=to` in order until `visit` breaks.
    fn scan(&self, from: &Key, to: &Key, visit: &mut dyn FnMut(&Key, &Value) -> ControlFlow<()>) -> Result<()>;
}
