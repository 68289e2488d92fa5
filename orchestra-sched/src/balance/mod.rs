//! Choosing an endpoint for a connection or a request.
