//! HTTP/1.1 as values, the server side and as much of the client's as is needed. No socket, thread or clock, so
//! that an event loop can drive any number of connections and every rule can be tested byte by byte.
//!
//! | module | what it knows |
//! |---|---|
//! | `buffer` | bytes that have come and are not used yet |
//! | `head` | the head of a request |
//! | `request` | requests, from bytes |
//! | `response` | responses, to bytes |
//! | `guard` | who may ask |
//! | `client` | the client's side |

mod buffer;
pub(crate) mod client;
pub mod guard;
mod head;
pub mod request;
pub mod response;
