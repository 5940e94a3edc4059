#include <tendril/autograd/functions.h>
#include <tendril/core/json.h>
#include <tendril/trainer/gather_batches.h>

#include <algorithm>
#include <numeric>

namespace tendril {
namespace {

// {"dtype": 0, "shapes": [[2, 3], ...]}
std::string describe(const std::vector<Tensor>& batches) {
  Json shapes = Json::array();
  for (const Tensor& batch : batches) {
    Json shape = Json::array();
    for (int64_t axis = 0; axis < batch.rank(); ++axis) shape.push_back(batch.size(axis));
    shapes.push_back(std::move(shape));
  }
  Json object = Json::object();
  object.set("dtype", batches.empty() ? int64_t{-1} : static_cast<int64_t>(batches[0].dtype()));
  object.set("shapes", std::move(shapes));
  return object.dump();
}

struct Described {
  int64_t dtype = -1;
  std::vector<Shape> shapes;
  int64_t elements = 0;
};

Described parse(const std::string& text, const std::string& origin) {
  const Json object = Json::parse(text, origin);
  Described result;
  result.dtype = object.at("dtype").as_int();
  for (const Json& axes : object.at("shapes").items()) {
    std::vector<int64_t> sizes;
    for (const Json& axis : axes.items()) sizes.push_back(axis.as_int());
    result.shapes.emplace_back(sizes);
    result.elements += result.shapes.back().numel();
  }
  return result;
}

}  // namespace

std::vector<Tensor> gather_batches(dist::ProcessGroup& group, const std::vector<Tensor>& batches) {
  std::vector<Described> ranks;
  for (const std::string& text : group.all_gather_text(describe(batches)))
    ranks.push_back(parse(text, "another process's batches"));
  const auto known = std::find_if(ranks.begin(), ranks.end(),
                                  [](const Described& rank) { return rank.dtype >= 0; });
  if (known == ranks.end()) return {};

  const auto dtype = static_cast<DType>(known->dtype);
  std::vector<int64_t> counts;
  for (const Described& rank : ranks) counts.push_back(rank.elements);
  std::vector<Tensor> flat;
  for (const Tensor& batch : batches)
    flat.push_back(reshape(contiguous(to(batch, Device::cpu())), {batch.numel()}));
  const Tensor mine = flat.empty() ? Tensor::empty({0}, dtype) : cat(flat, 0);
  const Tensor all =
      Tensor::empty({std::accumulate(counts.begin(), counts.end(), int64_t{0})}, dtype);
  group.all_gather({{all, mine, counts}}).wait();

  std::vector<int64_t> begin(ranks.size(), 0);  // of each process's next batch in `all`
  std::partial_sum(counts.begin(), counts.end() - 1, begin.begin() + 1);
  std::vector<Tensor> ordered;
  for (size_t k = 0; k < known->shapes.size(); ++k)  // the first process has most
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      if (k >= ranks[rank].shapes.size()) continue;
      const Shape& shape = ranks[rank].shapes[k];
      ordered.push_back(reshape(slice(all, 0, begin[rank], begin[rank] + shape.numel()), shape));
      begin[rank] += shape.numel();
    }
  return ordered;
}

}  // namespace tendril
