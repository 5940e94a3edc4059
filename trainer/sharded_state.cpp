#include <tendril/autograd/functions.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/safetensors.h>
#include <tendril/trainer/sharded_state.h>

#include <algorithm>
#include <functional>

namespace tendril {
namespace {

using dist::ShardedTensor;
using dist::ShardInfo;

// The parameter that a state "<parameter>.<name>" belongs to; null for none of these.
const ShardInfo* parameter_of(const std::string& state, const std::vector<ShardInfo>& shards) {
  const ShardInfo* best = nullptr;  // the longest name: "h" must not take what is of "h.weight"
  for (const ShardInfo& shard : shards)
    if (state.size() > shard.name.size() && state[shard.name.size()] == '.' &&
        state.compare(0, shard.name.size(), shard.name) == 0 &&
        (!best || shard.name.size() > best->name.size()))
      best = &shard;
  return best;
}

// Whether a tensor of this shape and dtype is cut as a parameter is, rather than a counter or a
// number of one element.
bool follows_parameter(const Shape& shape, DType dtype, const Shape& parameter_shape,
                       DType parameter_dtype) {
  if (shape != parameter_shape || shape.rank() == 0 || !is_floating(dtype)) return false;
  return shape.numel() != 1 || dtype != f64 || parameter_dtype == f64;
}

int64_t rows_of(const Tensor& part) { return part.rank() == 0 ? 1 : part.size(0); }

// Where whole states come from.
struct Source {
  std::vector<std::string> names;
  std::function<Shape(const std::string&)> shape;
  std::function<DType(const std::string&)> dtype;
  std::function<Tensor(const std::string&, int64_t begin, int64_t end)> rows;
  std::function<Tensor(const std::string&)> whole;
};

Source source_of(const std::filesystem::path& path) {
  Source source;
  if (std::filesystem::is_directory(path)) {
    const auto shards = dist::ShardedCheckpoint::open(path);
    for (const auto& [name, stored] : shards.tensors()) source.names.push_back(name);
    source.shape = [shards](const std::string& name) { return shards.tensors().at(name).shape; };
    source.dtype = [shards](const std::string& name) { return shards.tensors().at(name).dtype; };
    source.whole = [shards](const std::string& name) { return shards.read(name); };
    source.rows = [shards](const std::string& name, int64_t begin, int64_t end) {
      return shards.read(name, begin, end);
    };
    return source;
  }
  const SafetensorsFile file = SafetensorsFile::open(path.string());
  source.names = file.names();
  source.shape = [file](const std::string& name) { return file.tensor(name).shape(); };
  source.dtype = [file](const std::string& name) { return file.tensor(name).dtype(); };
  source.whole = [file](const std::string& name) { return ops::clone(file.tensor(name)); };
  source.rows = [file](const std::string& name, int64_t begin, int64_t end) {
    return ops::clone(slice(file.tensor(name), 0, begin, end));
  };
  return source;
}

}  // namespace

std::vector<ShardedTensor> model_pieces(const dist::FullySharded& model, const nn::Module& module) {
  std::vector<ShardedTensor> pieces;
  StateDict rest = module.state_dict();
  for (const ShardInfo& shard : model.shards()) {
    rest.erase(shard.name);
    if (shard.part.numel() == shard.shape.numel())
      pieces.push_back({shard.name, ops::raw(shard.part), shard.shape, 0});
    else if (shard.part.numel() > 0)
      pieces.push_back({shard.name, ops::raw(shard.part), shard.shape, shard.row_begin});
  }
  for (const auto& [name, tensor] : rest) pieces.push_back({name, tensor, tensor.shape(), 0});
  return pieces;
}

void load_model_pieces(dist::FullySharded& model, nn::Module& module,
                       const std::filesystem::path& folder) {
  const auto shards = dist::ShardedCheckpoint::open(folder);
  const StateDict all = module.state_dict();
  for (const auto& [name, tensor] : all)
    TENDRIL_CHECK(shards.contains(name) && shards.tensors().at(name).shape == tensor.shape(),
                  "[train] ", folder.string(), " has no \"", name, "\" of shape ", tensor.shape());
  model.reshard();
  StateDict rest = all;
  for (const ShardInfo& shard : model.shards()) {
    rest.erase(shard.name);
    if (shard.part.numel() == 0) continue;
    const Tensor values =
        shard.shape.rank() == 0
            ? shards.read(shard.name)
            : shards.read(shard.name, shard.row_begin, shard.row_begin + rows_of(shard.part));
    ops::copy(ops::raw(shard.part), values);
    shard.part.bump_version();
  }
  for (const auto& [name, tensor] : rest) {
    ops::copy(tensor, shards.read(name));
    tensor.bump_version();
  }
}

std::vector<ShardedTensor> optimizer_pieces(const std::vector<ShardInfo>& shards,
                                            const StateDict& state) {
  std::vector<ShardedTensor> pieces;
  for (const auto& [name, tensor] : state) {
    const ShardInfo* shard = parameter_of(name, shards);
    TENDRIL_CHECK(shard, "[train] the optimizer's \"", name, "\" belongs to no parameter");
    if (shard->part.numel() == 0 && shard->shape.numel() > 0) continue;  // others have it
    if (follows_parameter(tensor.shape(), tensor.dtype(), shard->part.shape(), shard->part.dtype()))
      pieces.push_back({name, tensor, shard->shape, shard->row_begin});
    else
      pieces.push_back({name, tensor, tensor.shape(), 0});
  }
  return pieces;
}

StateDict read_optimizer_pieces(const std::vector<ShardInfo>& shards,
                                const std::filesystem::path& path) {
  const Source source = source_of(path);
  StateDict state;
  for (const std::string& name : source.names) {
    const ShardInfo* shard = parameter_of(name, shards);
    TENDRIL_CHECK(shard, "[train] ", path.string(), " has \"", name,
                  "\", which belongs to no parameter of this model");
    const Tensor& part = shard->part;
    if (part.numel() == 0 && shard->shape.numel() > 0) continue;  // other processes have it
    if (!follows_parameter(source.shape(name), source.dtype(name), shard->shape, part.dtype()))
      state[name] = source.whole(name);
    else
      state[name] = source.rows(name, shard->row_begin, shard->row_begin + rows_of(part));
  }
  return state;
}

StateDict read_whole(const std::filesystem::path& folder) {
  const auto shards = dist::ShardedCheckpoint::open(folder);
  StateDict state;
  for (const auto& [name, stored] : shards.tensors()) state[name] = shards.read(name);
  return state;
}

}  // namespace tendril
