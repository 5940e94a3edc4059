#include "streams.h"

#include <algorithm>
#include <atomic>

#include "devices.h"
#include "emulated.h"
#include "status.h"

using emulated::raise;

namespace {

// A host that is ahead of its GPU asks too early: of four events one is there at once, the others
// after up to nine questions, to whatever event, or when the host has waited.
std::atomic<int64_t> questions = 0, records = 0;

int64_t moment_when_ready() { return questions + records++ % 4 * 3; }
void let_all_be_ready() { questions += 9; }

}  // namespace

void emulated::submit(cudaStream_t stream, std::function<void()> work) {
  if (stream && stream->graph)
    stream->graph->nodes.push_back(std::move(work));
  else
    work();
}

int emulated::device_of(cudaStream_t stream) { return stream ? stream->device : current_device(); }

bool emulated::is_of_current_device(cudaStream_t stream) {
  if (device_of(stream) == current_device()) return true;
  raise(cudaErrorInvalidResourceHandle, "the stream belongs to a GPU that is not the current one");
  return false;
}

// ---------------------------------------------------------------- streams

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new EmulatedStream{emulated::current_device()};
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (!stream || !stream->graph) {
    let_all_be_ready();
    return cudaSuccess;
  }
  stream->graph->broken = true;
  return raise(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (!event->graph || !event->recorded || !stream) return cudaSuccess;
  if (stream->graph && stream->graph != event->graph)
    return raise(cudaErrorStreamCaptureUnsupported);
  if (stream->graph) return cudaSuccess;
  stream->graph = event->graph;
  event->graph->recorders.push_back(stream);
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  let_all_be_ready();
  return cudaSuccess;
}

// ---------------------------------------------------------------- events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new EmulatedEvent;
  (*event)->device = emulated::current_device();
  (*event)->timed = !(flags & cudaEventDisableTiming);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

// Seconds that work has said to take.
static std::atomic<int64_t> pretended = 0;

void emulated::pretend_to_take(std::chrono::seconds time) { pretended += time.count(); }

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (event->device != emulated::device_of(stream))
    return raise(cudaErrorInvalidResourceHandle, "the event and the stream belong to two GPUs");
  event->recorded = true;
  event->graph = stream ? stream->graph : nullptr;
  event->time = std::chrono::steady_clock::now() + std::chrono::seconds(pretended.load());
  event->ready_at = moment_when_ready();
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event->graph) return raise(cudaErrorStreamCaptureUnsupported);
  return questions++ < event->ready_at ? raise(cudaErrorNotReady) : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  event->ready_at = 0;
  return event->graph ? raise(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (!start->recorded || !end->recorded || !start->timed || !end->timed ||
      start->device != end->device)
    return raise(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

// ---------------------------------------------------------------- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (!stream || stream->graph) return raise(cudaErrorStreamCaptureUnsupported);
  stream->graph = new EmulatedGraph;
  stream->graph->recorders.push_back(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  EmulatedGraph* recorded = stream ? stream->graph : nullptr;
  if (!recorded || recorded->recorders.front() != stream) return raise(cudaErrorInvalidValue);
  for (EmulatedStream* recorder : recorded->recorders) recorder->graph = nullptr;
  recorded->recorders.clear();
  if (recorded->broken) {
    delete recorded;
    return raise(cudaErrorStreamCaptureInvalidated);
  }
  *graph = recorded;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (nodes) return raise(cudaErrorInvalidValue);
  *count = graph->nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = new EmulatedGraphExec{graph->nodes};
  return cudaSuccess;
}

// A kernel that fails leaves its error behind; what would run after it does not.
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (!emulated::is_of_current_device(stream)) return cudaErrorInvalidResourceHandle;
  if (stream && stream->graph) return raise(cudaErrorStreamCaptureUnsupported);
  for (const auto& node : executable->nodes) {
    node();
    if (cudaPeekAtLastError() != cudaSuccess) return cudaPeekAtLastError();
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
