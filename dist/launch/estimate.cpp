#include <tendril/dist/launch/estimate.h>

#include <algorithm>
#include <map>

#include <tendril/core/error.h>
#include <tendril/dist/launch/read_value.h>

namespace tendril::launch {
namespace {

// 8-bit state: one byte, and an f32 scale per block of 256.
constexpr double kQuantized = 1.0 + 4.0 / 256.0;
constexpr double kBitsPerByte = 8.0, kGigabit = 1e9;

template <class T>
T pick(const char* what, const std::map<std::string, T>& table, const std::string& name) {
  if (const auto found = table.find(name); found != table.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [known, value] : table) names.push_back(known);
  fail("[launch] ", what, " must be one of ", join(names, ", "), "; got ", name);
}

struct Sharding {
  int stage = 0;
  bool is_hybrid = false;
};

const std::map<std::string, Sharding> kStrategies = {{"ddp", {0}},
                                                     {"no_shard", {0}},
                                                     {"zero0", {0}},
                                                     {"zero1", {1}},
                                                     {"zero2", {2}},
                                                     {"shard_grad_op", {2}},
                                                     {"zero3", {3}},
                                                     {"full_shard", {3}},
                                                     {"hybrid_shard", {3, true}},
                                                     {"hybrid_shard_zero2", {2, true}}};

// Per rank; `parts` is the number of ranks that share one copy.
void add_memory(Estimate& result, const EstimateOptions& o, int stage, double parts) {
  const double count = o.parameters;
  const Precision& p = o.precision;
  const auto share = [&](int from) { return stage >= from ? count / parts : count; };
  result.weights = p.weight * share(3);
  // FSDP keeps the parts in the dtype of the model and gathers all of it in the one of computing.
  if (stage == 2 && p.wire_weight != p.weight) {
    result.weights = p.weight * count / parts;
    result.gathered = p.wire_weight * count;
  }
  result.gradients = p.gradient * share(2);
  result.optimizer = (o.state + p.master) * share(1);
  if (stage == 3) result.gathered = 2 * p.wire_weight * o.largest_unit;
  if (o.offload_optimizer) {  // the gradients follow, for the optimizer to read
    result.host += result.optimizer + p.gradient * count / parts;
    result.optimizer = 0;
  }
  if (o.offload_params && stage == 3) {
    result.host += result.weights;
    result.weights = 0;
  }
}

void add_traffic(Estimate& result, const EstimateOptions& o, int stage, double parts) {
  const double weights = o.precision.wire_weight * o.parameters;
  const double gradients = o.precision.wire_gradient * o.parameters;
  const auto k = static_cast<double>(o.micro_batches);
  const double others = (parts - 1) / parts;
  switch (stage) {
    case 0:
      result.wire = 2 * gradients * others;
      break;
    case 1:
      result.wire = (gradients + weights) * others;
      break;
    case 2:
      result.wire = (k * gradients + weights) * others;
      break;
    default:
      result.wire = (2 * k * weights + k * gradients) * others;
  }
}

// A ring through all ranks is as fast as its slowest link; of a machine's ranks one sends out.
double ring_seconds(const EstimateOptions& o, double bytes, bool leaves_machine) {
  if (bytes == 0) return 0;
  double speed = o.link_gbps;
  if (leaves_machine) {
    if (o.network_gbps <= 0) return -1;
    speed = speed > 0 ? std::min(speed, o.network_gbps) : o.network_gbps;
  }
  return speed > 0 ? bytes * kBitsPerByte / (speed * kGigabit) : -1;
}

}  // namespace

Precision precision_from(const std::string& name) {
  static const std::map<std::string, Precision> kPrecisions = {{"bf16", {2, 2, 4, 4, 2, 2}},
                                                               {"fp16", {2, 2, 4, 4, 2, 2}},
                                                               {"fp32", {4, 4, 0, 4, 4, 4}},
                                                               {"bf16_pure", {2, 2, 0, 2, 2, 2}},
                                                               {"autocast", {4, 4, 0, 4, 2, 4}}};
  return pick("dtype", kPrecisions, name);
}

double optimizer_bytes(const std::string& name, const Precision& precision) {
  const double moment = precision.moment;
  // Adafactor's rows and columns and AdaLomo's are far less than a byte per parameter.
  const std::map<std::string, double> bytes = {
      {"adamw", 2 * moment},    {"adamw_8bit", 2 * kQuantized},
      {"lion", moment},         {"lion_8bit", kQuantized},
      {"muon", moment},         {"sgd", 0.0},
      {"sgd_momentum", moment}, {"adafactor", 0.0},
      {"adalomo", 0.0}};
  return pick("optimizer", bytes, name);
}

Estimate estimate(const std::string& strategy, const EstimateOptions& options) {
  const EstimateOptions& o = options;
  const Sharding sharding = pick("strategy", kStrategies, strategy);
  TENDRIL_CHECK(o.ranks >= 1 && o.machines >= 1 && o.ranks % o.machines == 0,
                "[launch] num_processes must be a multiple of num_machines; got ", o.ranks, " on ",
                o.machines);
  const auto machines = static_cast<double>(o.machines);
  const double parts = static_cast<double>(o.ranks) / (sharding.is_hybrid ? machines : 1.0);
  Estimate result{.strategy = strategy};
  add_memory(result, o, sharding.stage, parts);
  add_traffic(result, o, sharding.stage, parts);
  result.seconds = ring_seconds(o, result.wire, o.machines > 1 && !sharding.is_hybrid);
  if (!sharding.is_hybrid || o.machines == 1) return result;
  result.wire_between =
      2 * o.precision.wire_gradient * o.parameters / parts * (machines - 1) / machines;
  // All ranks of a machine share its network.
  const bool is_known = result.seconds >= 0 && o.network_gbps > 0;
  result.seconds = is_known ? result.seconds + result.wire_between * parts * kBitsPerByte /
                                                   (o.network_gbps * kGigabit)
                            : -1;
  return result;
}

}  // namespace tendril::launch
