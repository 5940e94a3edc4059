// The CUDA back end as a program sees it. Nothing here starts the GPU before it is used: a program
// that keeps to the CPU never touches it. Memory statistics of a GPU are those of
// <tendril/core/allocator.h> with Device::cuda().
//
// Work is queued on a stream of the device and the calling thread goes on; reading numbers on the
// host (item(), to_vector(), to(x, Device::cpu())) waits for them. Errors that only the GPU can
// notice, such as an index out of range in an embedding, are thrown at the next such wait.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <tendril/core/tensor.h>

namespace tendril::cuda {

/// Whether this build of Tendril has the CUDA back end.
TENDRIL_API bool is_built();
/// How many GPUs can be used; 0 without the back end, a driver or a GPU.
TENDRIL_API int device_count();
inline bool is_available() { return device_count() > 0; }

struct Properties {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
  int64_t shared_bytes_per_block = 0;  // the most that a kernel may ask for
  int64_t l2_bytes = 0;
};
/// Error when there is no such device.
TENDRIL_API const Properties& properties(Device device = Device::cuda());
/// Device memory that no program holds.
TENDRIL_API int64_t free_bytes(Device device = Device::cuda());

/// Waits until all work queued on the device is done; throws what went wrong there.
TENDRIL_API void synchronize(Device device = Device::cuda());
/// How often this process has waited for a GPU. Training steps that leave it as it is keep the GPU
/// busy without a pause.
TENDRIL_API int64_t synchronization_count();
/// How many bytes of tensors this process has copied from GPUs to the host.
TENDRIL_API int64_t bytes_to_host();

/// Whether products of f32 matrices may round their operands to TF32 (11 significant bits): several
/// times faster, with errors around 1e-3 instead of 1e-6. False until changed, for all threads; no
/// effect on other dtypes.
TENDRIL_API void allow_tf32(bool allowed);
/// On the calling thread.
TENDRIL_API bool tf32_allowed();

/// Products of 16-bit matrices of at least so many FLOPs (2^34 unless set) are computed, when they
/// are met first, in each way that cuBLASLt proposes, and from then on in the fastest of those that
/// give the same bits as its first proposal on drawn operands. That takes, once, some forty times as
/// long as the product, and memory for its operands and two results; the host waits. 0: none are.
TENDRIL_API void tune_products_from(double flops);
TENDRIL_API double tuned_product_flops();

/// While in scope the calling thread's products are not rounded to TF32, whatever is allowed.
class TENDRIL_API NoTf32Guard {
 public:
  NoTf32Guard();
  ~NoTf32Guard();
  NoTf32Guard(const NoTf32Guard&) = delete;
  NoTf32Guard& operator=(const NoTf32Guard&) = delete;
};

/// A queue of work. Two streams run side by side. A tensor's memory belongs to the stream on which
/// it was made: before using it on another, let that one wait for an Event, and keep the tensor
/// until the other stream is done with it.
class TENDRIL_API Stream {
 public:
  explicit Stream(Device device = Device::cuda());
  /// What the calling thread queues work on now.
  static Stream current(Device device = Device::cuda());
  Device device() const { return device_; }
  void synchronize() const;
  void* handle() const { return handle_.get(); }  // a cudaStream_t

 private:
  Stream(Device device, std::shared_ptr<void> handle)
      : device_(device), handle_(std::move(handle)) {}
  Device device_;
  std::shared_ptr<void> handle_;
};

/// Makes `stream` the calling thread's current one while in scope.
class TENDRIL_API StreamGuard {
 public:
  explicit StreamGuard(const Stream& stream);
  ~StreamGuard();
  StreamGuard(const StreamGuard&) = delete;
  StreamGuard& operator=(const StreamGuard&) = delete;

 private:
  Stream stream_;
  void* previous_;
};

/// A point in a stream's work.
class TENDRIL_API Event {
 public:
  explicit Event(Device device = Device::cuda());
  /// Marks the work queued so far on the current stream.
  void record();
  /// Work queued on the current stream from now on waits for the mark.
  void wait() const;
  void synchronize() const;
  /// Milliseconds on the GPU from `start` to this mark; waits for it.
  double milliseconds_since(const Event& start) const;

 private:
  Device device_;
  std::shared_ptr<void> handle_;
};

/// Work that was queued once and runs again without the host: for steps of many small kernels.
///
///   cuda::Graph graph([&] {
///     optimizer.zero_grad();
///     loss = model.loss(tokens, targets);
///     loss.backward();
///   });
///   for (...) { copy_(tokens, batch); graph.replay(); optimizer.step(); }
///
/// `work` runs twice as usual, which fills caches, and is then recorded on a stream of its own.
/// Tensors that it makes (`loss`, the gradients) keep their memory and get new numbers with every
/// replay. It must not read numbers on the host, draw random numbers (they would repeat) or depend
/// on host values that change, such as a learning rate; each is an Error or, for the last, wrong.
class TENDRIL_API Graph {
 public:
  explicit Graph(const std::function<void()>& work, Device device = Device::cuda());
  /// Queues the recorded work on the current stream.
  void replay() const;
  size_t node_count() const { return node_count_; }

 private:
  Stream stream_;
  std::shared_ptr<void> executable_;
  size_t node_count_ = 0;
};
/// Whether the calling thread is recording a Graph.
TENDRIL_API bool is_recording_graph();

/// A copy of a CPU tensor in page-locked memory: copies from it to a GPU run while the host goes
/// on. Do not change it before such a copy is done.
TENDRIL_API Tensor pin_memory(const Tensor& x);

}  // namespace tendril::cuda
