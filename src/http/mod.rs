//! HTTP/1.1 as values, the server side and as much of the client's as is needed. No socket, thread or clock, so
//! that an event loop can drive any number of connections and every rule can be tested byte by byte.

mod buffer;
pub mod client;
pub mod guard;
mod head;
pub mod request;
pub mod response;
