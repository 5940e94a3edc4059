#include <tendril/core/cuda.h>

#include <atomic>

namespace tendril::cuda {
namespace {
std::atomic<bool> tf32 = false;
std::atomic<double> tuned_flops = 0x1p34;
thread_local int tf32_guards = 0;
}  // namespace

void allow_tf32(bool allowed) { tf32 = allowed; }
bool tf32_allowed() { return tf32 && tf32_guards == 0; }

NoTf32Guard::NoTf32Guard() { ++tf32_guards; }
NoTf32Guard::~NoTf32Guard() { --tf32_guards; }

void tune_products_from(double flops) {
  TENDRIL_CHECK(flops >= 0.0, "[cuda] FLOPs must be 0 (none) or more; got ", flops);
  tuned_flops = flops;
}
double tuned_product_flops() { return tuned_flops; }

#ifdef TENDRIL_WITH_CUDA

bool is_built() { return true; }

#else  // the declarations of cuda.h without a back end

namespace {
[[noreturn]] void no_backend() {
  fail("[cuda] this build of Tendril has no CUDA back end; configure it with -DTENDRIL_CUDA=ON");
}
}  // namespace

bool is_built() { return false; }
int device_count() { return 0; }
const Properties& properties(Device) { no_backend(); }
int64_t free_bytes(Device) { no_backend(); }
void synchronize(Device) { no_backend(); }
int64_t synchronization_count() { return 0; }
int64_t bytes_to_host() { return 0; }
Stream::Stream(Device) { no_backend(); }
Stream Stream::current(Device) { no_backend(); }
void Stream::synchronize() const { no_backend(); }
StreamGuard::StreamGuard(const Stream& stream) : stream_(stream), previous_(nullptr) {}
StreamGuard::~StreamGuard() = default;
Event::Event(Device) { no_backend(); }
void Event::record() { no_backend(); }
void Event::wait() const { no_backend(); }
void Event::synchronize() const { no_backend(); }
double Event::milliseconds_since(const Event&) const { no_backend(); }
Graph::Graph(const std::function<void()>&, Device device) : stream_(device) {}
void Graph::replay() const { no_backend(); }
bool is_recording_graph() { return false; }
Tensor pin_memory(const Tensor&) { no_backend(); }

#endif

}  // namespace tendril::cuda
