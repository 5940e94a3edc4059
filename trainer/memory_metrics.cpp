#include <tendril/core/allocator.h>
#include <tendril/trainer/memory_metrics.h>

#include <algorithm>

namespace tendril {

MemoryMetrics::MemoryMetrics(std::string stage, const TrainingArguments& args,
                             const nn::Module& model)
    : stage_(args.skip_memory_metrics ? "" : std::move(stage)), device_(Device::cpu()) {
  if (stage_.empty()) return;
  const std::vector<Tensor> parameters = model.parameters();
  if (!parameters.empty()) device_ = parameters.front().device();
  reset_peak_memory_stats(device_);
  before_ = memory_stats(device_).current_bytes;
}

Metrics MemoryMetrics::finish() const {
  if (stage_.empty()) return {};
  const MemoryStats now = memory_stats(device_);
  const std::string name = stage_ + (device_.is_cpu() ? "_mem_cpu_" : "_mem_gpu_");
  return {{name + "alloc_delta", static_cast<double>(now.current_bytes - before_)},
          {name + "peaked_delta",
           static_cast<double>(std::max<int64_t>(now.peak_bytes - now.current_bytes, 0))}};
}

}  // namespace tendril
