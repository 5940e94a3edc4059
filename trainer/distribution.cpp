#include <tendril/dist/environment.h>
#include <tendril/optim/clip.h>
#include <tendril/trainer/distribution.h>
#include <tendril/trainer/gather_batches.h>

#include <algorithm>
#include <exception>

namespace tendril {
namespace {

// MPI and NCCL start once per process, so the group outlives its first Trainer.
std::shared_ptr<dist::ProcessGroup> group_of_process(const TrainingArguments& args) {
  static std::shared_ptr<dist::ProcessGroup> group;
  if (group || dist::LaunchEnvironment::read().world_size == 1) return group;
  group = dist::init_process_group({.backend = args.ddp_backend.value_or(""),
                                    .timeout = std::chrono::seconds(args.ddp_timeout)});
  return group;
}

}  // namespace

Distribution::Distribution(const TrainingArguments& args, std::shared_ptr<dist::ProcessGroup> group)
    : args_(args), group_(group ? std::move(group) : group_of_process(args)) {
  if (!group_) return;
  rank_ = group_->rank();
  size_ = group_->size();
  local_rank_ = dist::LaunchEnvironment::read().local_rank;
  if (dist::LaunchEnvironment::read().world_size == 1) local_rank_ = rank_;  // threads
}

Distribution::~Distribution() {
  if (!sharded_ || std::uncaught_exceptions() > 0) return;
  try {
    sharded_->restore();
  } catch (const Error&) {  // another process has failed, and says so itself
  }
}

uint64_t Distribution::seed_here(uint64_t seed) const {
  constexpr uint64_t kApart = 0x9E3779B97F4A7C15;
  return seed + static_cast<uint64_t>(rank_) * kApart;
}

// Those who share one copy of the model.
std::shared_ptr<dist::ProcessGroup> Distribution::shard_group(dist::ProcessGroup& group) const {
  return group.split(plan_.shard_group_size > 0 ? rank_ / plan_.shard_group_size
                                                : dist::LaunchEnvironment::read().node_rank);
}

void Distribution::spread(nn::Module& model) {
  data_parallel_.reset();
  sharded_.reset();
  plan_ = make_sharding_plan(args_, model, size_);
  const std::shared_ptr<dist::ProcessGroup> group = group_ ? group_ : dist::single_process_group();
  if (plan_.sharded) {
    TENDRIL_CHECK(!args_.bf16_full_eval && !args_.fp16_full_eval,
                  "[Trainer] bf16_full_eval and fp16_full_eval convert the whole model, which no "
                  "process of a sharded run has; bf16 computes evaluations in 16 bits too");
    TENDRIL_CHECK(!args_.auto_find_batch_size,
                  "[Trainer] auto_find_batch_size puts weights back that a sharded run does not "
                  "have; set per_device_train_batch_size");
    if (plan_.is_hybrid()) plan_.options.shard_group = shard_group(*group);
    if (needs_whole_parameters(args_.optim)) plan_.options.partition = dist::Partition::whole;
    sharded_ = std::make_unique<dist::FullySharded>(model, group, plan_.options);
    if (plan_.activation_checkpointing) model.set_gradient_checkpointing(true);
  } else if (size_ > 1) {
    data_parallel_ = std::make_unique<dist::DistributedDataParallel>(
        model, group,
        dist::DataParallelOptions{
            .bucket_cap_mb = static_cast<double>(args_.ddp_bucket_cap_mb.value_or(25)),
            .broadcast_buffers = args_.ddp_broadcast_buffers.value_or(true),
            .find_unused_parameters = args_.ddp_find_unused_parameters.value_or(true)});
  }
}

std::vector<NamedTensor> Distribution::trained_parameters(const nn::Module& model) const {
  if (sharded_) return sharded_->named_parameters();
  std::vector<NamedTensor> parameters = model.named_parameters();
  std::erase_if(parameters, [](const NamedTensor& p) { return !p.tensor.requires_grad(); });
  return parameters;
}

ParameterGroups Distribution::parts_of(ParameterGroups groups) const {
  if (!sharded_) return groups;
  StateDict parts;
  for (const NamedTensor& parameter : sharded_->named_parameters())
    parts[parameter.name] = parameter.tensor;
  for (auto* list : {&groups.decayed, &groups.kept, &groups.targets})
    for (NamedTensor& parameter : *list)
      if (const auto part = parts.find(parameter.name); part != parts.end())
        parameter.tensor = part->second;
  return groups;
}

std::unique_ptr<dist::NoSync> Distribution::pause_exchange(bool is_last_batch) {
  if (is_last_batch || plan_.reduces_every_batch) return nullptr;
  if (data_parallel_) return std::make_unique<dist::NoSync>(data_parallel_->reducer());
  if (sharded_) return std::make_unique<dist::NoSync>(sharded_->reducer());
  return nullptr;
}

void Distribution::check_optimizer(const optim::Optimizer& optimizer) const {
  if (sharded_) {
    const std::vector<Tensor> parts = sharded_->parameters();
    for (const Tensor& parameter : optimizer.parameters())
      TENDRIL_CHECK(
          std::any_of(parts.begin(), parts.end(),
                      [&](const Tensor& part) { return part.is_same(parameter); }),
          "[create_optimizer] the model is sharded, and the optimizer has a parameter that "
          "is not one of this process's parts; make it from trained_parameters()");
  }
  if (size_ == 1 || !optimizer.updates_in_backward()) return;
  TENDRIL_CHECK(sharded_, "[train] optim ", args_.optim,
                " updates during backward, before gradients of several processes are averaged; "
                "use it with fsdp");
  TENDRIL_CHECK(args_.max_grad_norm <= 0.0 || !clips_in_two_passes(args_),
                "[train] clip_in_two_passes measures this process's gradients only; with several "
                "processes set max_grad_norm to 0");
  TENDRIL_CHECK(args_.nonfinite_policy != NonfinitePolicy::skip,
                "[train] nonfinite_policy skip leaves out updates during backward by what this "
                "process sees of a gradient; with several processes use stop");
}

void Distribution::before_forward() {
  if (data_parallel_) data_parallel_->sync_buffers();
}

void Distribution::note_step(int64_t step) {
  if (group_) group_->set_step(step);
}

std::vector<double> Distribution::sum(const std::vector<double>& values) const {
  if (size_ == 1) return values;
  const Tensor all = Tensor::from(values, {static_cast<int64_t>(values.size())});
  group_->all_reduce(all).wait();
  return all.to_vector<double>();
}

int64_t Distribution::sum(int64_t value) const {
  if (size_ == 1) return value;
  const Tensor all = Tensor::from({value}, {1});
  group_->all_reduce(all).wait();
  return all.item<int64_t>();
}

std::string Distribution::run_on_first(const std::function<std::string()>& job) const {
  if (size_ == 1) return job();
  std::string answer;  // an R and the result, or an E and the message
  if (is_first()) try {
      answer = "R" + job();
    } catch (const Error& error) {
      answer = std::string("E") + error.what();
    }
  answer = group_->broadcast_text(answer, 0);
  TENDRIL_CHECK(answer[0] == 'R', answer.substr(1));
  return answer.substr(1);
}

Metrics Distribution::of_first(const Metrics& metrics) const {
  if (size_ == 1) return metrics;
  std::vector<double> values;
  Json names = Json::array();
  for (const auto& [name, value] : metrics) {
    names.push_back(name);
    values.push_back(value);
  }
  const std::string text = group_->broadcast_text(names.dump(), 0);
  const Json first_names = Json::parse(text, "the first process's metrics");
  values.resize(first_names.items().size());
  const Tensor numbers = Tensor::from(values, {static_cast<int64_t>(values.size())});
  group_->broadcast({numbers}, 0).wait();
  values = numbers.to_vector<double>();
  Metrics result;
  for (size_t i = 0; i < values.size(); ++i) result[first_names.items()[i].as_string()] = values[i];
  return result;
}

std::vector<std::string> Distribution::gather_text(const std::string& text) const {
  return size_ == 1 ? std::vector<std::string>{text} : group_->all_gather_text(text);
}

double Distribution::clip_grad_norm(const std::vector<Tensor>& parameters, double max_norm) const {
  return sharded_ ? sharded_->clip_grad_norm(max_norm)
                  : optim::clip_grad_norm(parameters, max_norm);
}

double Distribution::grad_norm(const std::vector<Tensor>& parameters) const {
  return sharded_ ? sharded_->grad_norm() : optim::grad_norm(parameters);
}

int64_t Distribution::real_examples(const DataLoader& loader, int64_t batch,
                                    int64_t examples) const {
  if (size_ == 1) return examples;
  const auto& sampler = loader.options().sampler;
  const std::optional<int64_t> all =
      sampler ? std::optional<int64_t>(sampler->size()) : loader.num_examples();
  TENDRIL_CHECK(all,
                "[evaluate] with several processes the dataset must know its size, so that "
                "no example counts twice");
  const int64_t begin = (batch * size_ + rank_) * loader.options().batch_size;
  return std::clamp(*all - begin, int64_t{0}, examples);
}

std::vector<Tensor> Distribution::gather_batches(const std::vector<Tensor>& batches) const {
  return size_ == 1 ? batches : tendril::gather_batches(*group_, batches);
}

}  // namespace tendril
