//! What people may do is read from six tables, then known by two marks. Whatever changes it moves a mark, whoever writes.

mod marks;
mod nodes;
