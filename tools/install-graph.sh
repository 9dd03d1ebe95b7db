# Installs hnswlib with the given Python. It comes as source only, and nearhit runs without it: this never fails.
without="exact search instead of the graph; fine up to about 20,000 entries per tenant"
log="$(dirname "$1")/../hnswlib.log"

if ! command -v "${CXX:-c++}" >/dev/null && ! command -v g++ >/dev/null && ! command -v clang++ >/dev/null; then
    echo "no C++ compiler: $without"
elif ! "$1" -m pip --disable-pip-version-check install --no-deps -r requirements-graph.lock >"$log" 2>&1; then
    echo "hnswlib did not build (see $log; often the Python headers are missing): $without"
fi
