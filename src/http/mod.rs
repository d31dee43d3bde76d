//! The server side of HTTP/1.1 as values: bytes in, requests out, responses to bytes. No socket, thread or clock, so
//! that an event loop can drive any number of connections and every rule can be tested byte by byte.

mod buffer;
pub mod guard;
mod head;
pub mod request;
pub mod response;
