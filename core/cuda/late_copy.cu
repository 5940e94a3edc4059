// Copies of single numbers into page-locked memory. The places they go to are made once and used
// again: making one may wait for the GPU.
#include <tendril/core/cuda/late_copy.h>

#include <array>
#include <mutex>
#include <vector>

#include <tendril/core/cuda/runtime.cuh>

namespace tendril::cuda {

// Where a number arrives, and the mark in the stream's work that says it has.
struct LatePlace {
  int64_t* number = nullptr;
  cudaEvent_t mark = nullptr;
};

static bool is_done(const LatePlace& place) {
  const cudaError_t status = cudaEventQuery(place.mark);
  if (status == cudaSuccess) return true;
  TENDRIL_CHECK(status == cudaErrorNotReady,
                "[cuda] cudaEventQuery failed: ", cudaGetErrorString(status), " (",
                cudaGetErrorName(status), ")");
  cudaGetLastError();  // to be early is no error for the next launch to find
  return false;
}

// The places of one device. Never torn down, as flags may outlive any destructor here.
class LatePlaces {
 public:
  static LatePlaces& of(Device device) {
    static auto* all = new std::array<LatePlaces, kMostDevices>;
    return (*all)[static_cast<size_t>(device.index)];
  }

  /// One whose last copy is done: nobody may have asked for it before it was given back.
  LatePlace take() {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < free_.size(); ++i) {
      if (!is_done(free_[i])) continue;
      const LatePlace place = free_[i];
      free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(i));
      return place;
    }
    free_.reserve(++made_);  // give_back() must not throw
    LatePlace place;
    TENDRIL_CUDA_CHECK(cudaMallocHost(&place.number, sizeof(int64_t)));
    TENDRIL_CUDA_CHECK(cudaEventCreateWithFlags(&place.mark, cudaEventDisableTiming));
    return place;
  }
  void give_back(const LatePlace& place) {
    const std::lock_guard lock(mutex_);
    free_.push_back(place);
  }

 private:
  std::mutex mutex_;
  std::vector<LatePlace> free_;
  size_t made_ = 0;
};

struct LateCopy {
  LatePlaces& places;
  LatePlace place;

  explicit LateCopy(Device device) : places(LatePlaces::of(device)), place(places.take()) {}
  ~LateCopy() { places.give_back(place); }
  LateCopy(const LateCopy&) = delete;
  LateCopy& operator=(const LateCopy&) = delete;
};

std::shared_ptr<LateCopy> copy_later(const Tensor& number) {
  TENDRIL_CHECK(!is_recording_graph(),
                "[Graph] numbers on their way to the host cannot be recorded; keep loss scaling's "
                "unscale() and step() out of the recorded work");
  const cudaStream_t on = stream(number.device());
  auto copy = std::make_shared<LateCopy>(number.device());
  TENDRIL_CUDA_CHECK(cudaMemcpyAsync(copy->place.number, number.data<int64_t>(), sizeof(int64_t),
                                     cudaMemcpyDeviceToHost, on));
  TENDRIL_CUDA_CHECK(cudaEventRecord(copy->place.mark, on));
  return copy;
}

bool has_arrived(const LateCopy& copy) { return is_done(copy.place); }

int64_t arrived_number(const LateCopy& copy) { return *copy.place.number; }

void wait_for(const LateCopy& copy) {
  if (is_done(copy.place)) return;
  count_wait();
  TENDRIL_CUDA_CHECK(cudaEventSynchronize(copy.place.mark));
}

}  // namespace tendril::cuda
