#include <tendril/dist/checkpoint/row_plan.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <tuple>

#include <tendril/core/error.h>
#include <tendril/core/json.h>
#include <tendril/dist/checkpoint/manifest.h>

namespace tendril::dist::shards {
namespace {

struct Claim {
  int64_t begin = 0, end = 0;
  size_t rank = 0;
};

struct ClaimedTensor {
  DType dtype = f32;
  Shape shape;
  size_t rank = 0;  // the first that named it
  std::vector<Claim> claims;
};

void check(const ShardedTensor& tensor) {
  const std::string label = "tensor " + json_quote(tensor.name);  // Error unless it is UTF-8
  TENDRIL_CHECK(!tensor.name.empty() && tensor.name != "__metadata__", label,
                ": this cannot be a tensor's name");
  TENDRIL_CHECK(tensor.local.defined(), label, " is undefined");
  const Shape& local = tensor.local.shape();
  const Shape& whole = tensor.whole_shape;
  TENDRIL_CHECK(
      local.rank() == whole.rank() && local == shape_of_rows(whole, whole.empty() ? 1 : local[0]),
      label, " has shape ", local, ", which are no rows of ", whole);
  const int64_t rows = row_count(local);
  TENDRIL_CHECK(tensor.row_begin >= 0 && tensor.row_begin <= row_count(whole) - rows, label,
                " has no rows [", tensor.row_begin, ", ", tensor.row_begin + rows,
                "); its whole shape is ", whole);
}

void add(ClaimedTensor& tensor, const std::string& name, const ClaimedTensor& said) {
  const auto what = [](const ClaimedTensor& one) {
    return tendril::detail::concat(one.dtype, " ", one.shape, " on rank ", one.rank);
  };
  TENDRIL_CHECK(said.dtype == tensor.dtype && said.shape == tensor.shape, "[save_sharded] tensor ",
                json_quote(name), " differs between ranks: ", what(tensor), ", ", what(said));
  tensor.claims.insert(tensor.claims.end(), said.claims.begin(), said.claims.end());
}

ClaimedTensor parse_claim(const Json& json, size_t rank) {
  ClaimedTensor result;
  result.dtype = static_cast<DType>(json.at("dtype").as_int());
  std::vector<int64_t> sizes;
  for (const Json& size : json.at("shape").items()) sizes.push_back(size.as_int());
  result.shape = Shape(sizes);
  result.rank = rank;
  const int64_t begin = json.at("begin").as_int(), end = json.at("end").as_int();
  if (end > begin) result.claims.push_back({begin, end, rank});
  return result;
}

std::vector<StoredTensor::Rows> choose(const std::string& name, ClaimedTensor& tensor,
                                       const std::vector<std::string>& files) {
  std::sort(tensor.claims.begin(), tensor.claims.end(), [](const Claim& a, const Claim& b) {
    return std::tie(a.begin, a.end, a.rank) < std::tie(b.begin, b.end, b.rank);
  });
  const auto gap = [&](int64_t begin, int64_t end) {
    fail("[save_sharded] tensor ", json_quote(name), " of shape ", tensor.shape,
         ": no rank has rows [", begin, ", ", end, ")");
  };
  std::vector<StoredTensor::Rows> result;
  Claim last;  // before the first row
  for (const Claim& claim : tensor.claims) {
    if (!result.empty() && claim.begin == last.begin && claim.end == last.end) continue;
    if (claim.begin > last.end) gap(last.end, claim.begin);
    TENDRIL_CHECK(claim.begin == last.end, "[save_sharded] tensor ", json_quote(name), ": rows [",
                  last.begin, ", ", last.end, ") of rank ", last.rank, " and [", claim.begin, ", ",
                  claim.end, ") of rank ", claim.rank, " overlap without being the same");
    result.push_back({claim.begin, claim.end, files[claim.rank]});
    last = claim;
  }
  if (last.end < row_count(tensor.shape)) gap(last.end, row_count(tensor.shape));
  return result;
}

}  // namespace

std::string describe_rows(const std::vector<ShardedTensor>& tensors) {
  std::set<std::string> names;
  Json list = Json::array();
  for (const ShardedTensor& tensor : tensors) {
    check(tensor);
    TENDRIL_CHECK(names.insert(tensor.name).second, "tensor ", json_quote(tensor.name),
                  " is given twice");
    Json shape = Json::array();
    for (const int64_t size : tensor.whole_shape) shape.push_back(size);
    Json entry = Json::object();
    entry.set("name", tensor.name).set("dtype", static_cast<int>(tensor.local.dtype()));
    entry.set("shape", std::move(shape)).set("begin", tensor.row_begin);
    list.push_back(entry.set("end", tensor.row_begin + row_count(tensor.local.shape())));
  }
  return list.dump();
}

std::map<std::string, StoredTensor> plan_rows(const std::vector<std::string>& descriptions,
                                              const std::vector<std::string>& files) {
  std::map<std::string, ClaimedTensor> claimed;
  for (size_t rank = 0; rank < descriptions.size(); ++rank) {
    const Json list = Json::parse(descriptions[rank], "rank " + std::to_string(rank));
    for (const Json& entry : list.items()) {
      const std::string& name = entry.at("name").as_string();
      const ClaimedTensor said = parse_claim(entry, rank);
      const auto [tensor, is_new] = claimed.emplace(name, said);
      if (!is_new) add(tensor->second, name, said);
    }
  }
  std::map<std::string, StoredTensor> result;
  for (auto& [name, tensor] : claimed)
    result[name] = {tensor.dtype, tensor.shape, choose(name, tensor, files)};
  return result;
}

}  // namespace tendril::dist::shards
