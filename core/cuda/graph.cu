#include <tendril/core/cuda/runtime.cuh>

namespace tendril::cuda {
namespace {

thread_local bool recording = false;

// Leaves recording mode on every way out; what was recorded is taken with finish().
class Recording {
 public:
  explicit Recording(cudaStream_t on) : on_(on) {
    // Relaxed: an allocation that the warm-up did not meet may still ask the driver for memory.
    TENDRIL_CUDA_CHECK(cudaStreamBeginCapture(on, cudaStreamCaptureModeRelaxed));
    recording = true;
  }
  ~Recording() {
    if (!recording) return;
    recording = false;
    cudaGraph_t broken = nullptr;
    cudaStreamEndCapture(on_, &broken);
    if (broken) cudaGraphDestroy(broken);
    cudaGetLastError();
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  cudaGraph_t finish() {
    recording = false;
    cudaGraph_t graph = nullptr;
    TENDRIL_CUDA_CHECK(cudaStreamEndCapture(on_, &graph));
    return graph;
  }

 private:
  cudaStream_t on_;
};

}  // namespace

bool is_recording_graph() { return recording; }

Graph::Graph(const std::function<void()>& work, Device device) : stream_(device) {
  TENDRIL_CHECK(!recording, "[Graph] a graph is being recorded already; record one at a time");
  // What was queued elsewhere, the model's weights for example, must be there.
  cuda::synchronize(device);
  const StreamGuard guard(stream_);
  for (int warmup = 0; warmup < 2; ++warmup) work();
  stream_.synchronize();
  Recording capture(static_cast<cudaStream_t>(stream_.handle()));
  work();
  const cudaGraph_t graph = capture.finish();
  const std::unique_ptr<void, void (*)(void*)> owner(
      graph, [](void* made) { cudaGraphDestroy(static_cast<cudaGraph_t>(made)); });
  TENDRIL_CUDA_CHECK(cudaGraphGetNodes(graph, nullptr, &node_count_));
  cudaGraphExec_t executable = nullptr;
  TENDRIL_CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
  executable_ = {executable,
                 [](void* made) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(made)); }};
}

void Graph::replay() const {
  TENDRIL_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_.get()),
                                     cuda::stream(stream_.device())));
}

}  // namespace tendril::cuda
