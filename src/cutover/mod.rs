pub mod decide;
pub mod history;
pub mod phase;
pub mod vars;
