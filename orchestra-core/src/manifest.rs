//! YAML and JSON documents in, typed objects out, with a report of what is not honoured.
