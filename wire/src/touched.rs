//! The effect of a command of the stream on keys, as values.

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Changes nothing: PING, REPLCONF, MULTI, EXEC.
    Nothing,
    /// All after it is about this database.
    Select(u32),
    /// Changes no key, but somebody acted: PUBLISH, SCRIPT, FUNCTION.
    Message,
    /// DEL and UNLINK, which may be keys that expired.
    Removal(Vec<Touched>),
    /// HDEL, which may be of fields that expired.
    FieldRemoval(Touched, Vec<Vec<u8>>),
    Write(Vec<Touched>),
    /// May have changed any key.
    Everything,
}

/// A key that a command wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    pub place: Place,
    pub name: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The database that the stream has selected.
    Selected,
    Database(u32),
}
