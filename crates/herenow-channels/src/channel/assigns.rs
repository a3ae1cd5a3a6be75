//! Values that travel with a connection and its channels, by type.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

/// One value per type, given by `connect`, by a route, or by a channel.
///
/// Eight bytes when empty. Clones share their values; changing a clone leaves the others alone.
/// Look-ups are linear over the values, of which there are few.
#[derive(Clone, Default)]
pub struct Assigns(Option<Arc<SmallVec<[Assigned; 1]>>>);

type Assigned = (TypeId, Arc<dyn Any + Send + Sync>);

impl Assigns {
    /// Returns no values.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Adds a value, in place of the one of its type, and returns itself.
    #[must_use]
    pub fn with<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.insert(value);
        self
    }

    /// Adds a value, in place of the one of its type.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.insert_arc(Arc::new(value));
    }

    /// As [`Assigns::insert`], for a value that is shared with others.
    pub fn insert_arc<T: Send + Sync + 'static>(&mut self, value: Arc<T>) {
        self.put(TypeId::of::<T>(), value);
    }

    /// Returns the value of a type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        let values = self.0.as_deref()?;
        let (_, value) = values.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        value.downcast_ref()
    }

    /// Replaces the value of a type by what `change` makes of it.
    pub fn update<T: Clone + Default + Send + Sync + 'static>(
        &mut self,
        change: impl FnOnce(&mut T),
    ) {
        let mut value = self.get::<T>().cloned().unwrap_or_default();
        change(&mut value);
        self.insert(value);
    }

    /// Adds all values of `other`, each in place of the one of its type.
    pub fn merge(&mut self, other: &Self) {
        if self.0.is_none() {
            self.0.clone_from(&other.0);
            return;
        }
        for (id, value) in other.0.as_deref().into_iter().flatten() {
            self.put(*id, value.clone());
        }
    }

    fn put(&mut self, id: TypeId, value: Arc<dyn Any + Send + Sync>) {
        let values = Arc::make_mut(self.0.get_or_insert_default());
        match values.iter_mut().find(|(of, _)| *of == id) {
            Some((_, old)) => *old = value,
            None => values.push((id, value)),
        }
    }
}

impl fmt::Debug for Assigns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Assigns({} values)",
            self.0.as_deref().map_or(0, SmallVec::len)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Default, PartialEq)]
    struct Name(&'static str);
    #[derive(Debug, Clone, Default, PartialEq)]
    struct Count(u32);

    #[test]
    fn c_45_assigns_merge_overwrite_and_update() {
        let mut assigns = Assigns::new().with(Name("a"));
        assert_eq!(assigns.get(), Some(&Name("a")));
        assigns.merge(&Assigns::new().with(Count(1)).with(Name("b")));
        assert_eq!(
            assigns.get(),
            Some(&Name("b")),
            "the same type is overwritten"
        );
        assert_eq!(assigns.get(), Some(&Count(1)));
        assigns.merge(&Assigns::new().with(Count(2)));
        assert_eq!(assigns.get(), Some(&Name("b")), "others are kept");
        let before = assigns.clone();
        assigns.update(|count: &mut Count| count.0 += 40);
        assert_eq!(assigns.get(), Some(&Count(42)));
        assert_eq!(before.get(), Some(&Count(2)), "clones do not change");
        assert_eq!(size_of::<Assigns>(), 8);
    }
}
