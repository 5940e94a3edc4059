#include <tendril/core/creation.h>
#include <tendril/dist/data_parallel.h>
#include <tendril/dist/same_model.h>

namespace tendril::dist {
namespace {

// In the model's order, so that the last bucket is complete first.
std::vector<std::vector<NamedTensor>> buckets_of(const nn::Module& model, double cap_mb) {
  TENDRIL_CHECK(cap_mb > 0.0, "[DistributedDataParallel] bucket_cap_mb must be positive; got ",
                cap_mb);
  const auto cap = static_cast<int64_t>(cap_mb * 1024 * 1024);
  std::vector<std::vector<NamedTensor>> buckets;
  int64_t bytes = 0;
  for (const NamedTensor& parameter : model.named_parameters()) {
    if (!parameter.tensor.requires_grad()) continue;
    if (buckets.empty() || bytes + parameter.tensor.nbytes() > cap) {
      buckets.emplace_back();
      bytes = 0;
    }
    buckets.back().push_back(parameter);
    bytes += parameter.tensor.nbytes();
  }
  return buckets;
}

}  // namespace

DistributedDataParallel::DistributedDataParallel(nn::Module& model,
                                                 std::shared_ptr<ProcessGroup> group,
                                                 const DataParallelOptions& options)
    : model_(model), group_(std::move(group)), options_(options) {
  require_same_model(*group_, model_);
  broadcast_state(*group_, model_.named_parameters());
  broadcast_state(*group_, model_.named_buffers());
  reducer_ = std::make_unique<GradientReducer>(
      buckets_of(model_, options_.bucket_cap_mb),
      GradientExchange{[this](size_t bucket) { start(bucket); }, [this] { finish(); },
                       [this] { works_.clear(); }},
      GradientReducerOptions{.allow_unused = options_.find_unused_parameters});
}

DistributedDataParallel::~DistributedDataParallel() = default;

void DistributedDataParallel::start(size_t bucket) {
  if (bucket + 1 == bucket_count()) unused_.clear();
  std::vector<Tensor> gradients;
  for (const NamedTensor& parameter : reducer_->groups()[bucket]) {
    Tensor tensor = parameter.tensor;
    unused_.push_back(!tensor.grad().defined());
    if (unused_.back())  // here, but perhaps not elsewhere
      tensor.set_grad(zeros(tensor.shape(), tensor.dtype(), tensor.device()));
    gradients.push_back(tensor.grad());
  }
  works_.push_back(group_->all_reduce(std::move(gradients), ReduceOp::avg));
}

void DistributedDataParallel::finish() {
  for (const Work& work : works_) work.wait();
  works_.clear();
  if (options_.find_unused_parameters) forget_unused();
}

// What no rank has used keeps no gradient, so that no optimizer moves it.
void DistributedDataParallel::forget_unused() {
  const auto count = static_cast<int64_t>(unused_.size());
  const Tensor unused = Tensor::from(std::vector<int32_t>(unused_.begin(), unused_.end()), {count});
  group_->all_reduce(unused, ReduceOp::min).wait();
  const int32_t* next = unused.data<int32_t>();
  for (size_t bucket = bucket_count(); bucket-- > 0;)  // in the order of start()
    for (const NamedTensor& parameter : reducer_->groups()[bucket]) {
      Tensor tensor = parameter.tensor;
      if (*next++ == 1) tensor.set_grad({});
    }
}

void DistributedDataParallel::sync_buffers() {
  if (options_.broadcast_buffers) broadcast_state(*group_, model_.named_buffers());
}

size_t DistributedDataParallel::bucket_count() const { return reducer_->groups().size(); }

}  // namespace tendril::dist
