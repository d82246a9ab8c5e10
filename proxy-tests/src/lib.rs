//! Fixtures for end-to-end tests and benchmarks: a real Postgres, the gate, a raw protocol client.
