//! Keeps the cluster that all test processes share; see `proxy_tests::postgres::keep`.

fn main() {
    proxy_tests::postgres::keep();
}
