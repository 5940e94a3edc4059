#include <tendril/autograd/functions.h>
#include <tendril/core/ops/copy.h>
#include <tendril/dist/same_model.h>

#include <sstream>

namespace tendril::dist {
namespace {

std::string describe(const NamedTensor& entry, bool trainable) {
  return detail::concat('"', entry.name, "\" ", entry.tensor.shape(), " ", entry.tensor.dtype(),
                        trainable ? "" : " frozen");
}

// A line per tensor.
std::string description(const nn::Module& model) {
  std::string text;
  for (const NamedTensor& entry : model.named_parameters())
    text += describe(entry, entry.tensor.requires_grad()) + '\n';
  for (const NamedTensor& entry : model.named_buffers()) text += describe(entry, true) + '\n';
  return text;
}

// The first line that differs.
std::string difference(const std::string& expected, const std::string& got, size_t rank) {
  std::istringstream a(expected), b(got);
  std::string line_a, line_b;
  while (true) {
    const bool more_a = static_cast<bool>(std::getline(a, line_a));
    const bool more_b = static_cast<bool>(std::getline(b, line_b));
    if (!more_a) line_a = "nothing more";
    if (!more_b) line_b = "nothing more";
    if (line_a != line_b)
      return detail::concat("rank 0 has ", line_a, " where rank ", rank, " has ", line_b);
    if (!more_a && !more_b) return "";
  }
}

}  // namespace

void require_same_model(ProcessGroup& group, const nn::Module& model) {
  const std::vector<std::string> texts = group.all_gather_text(description(model));
  for (size_t rank = 1; rank < texts.size(); ++rank)
    TENDRIL_CHECK(texts[rank] == texts[0], "[distributed] the ranks' models differ: ",
                  difference(texts[0], texts[rank], rank),
                  "; every rank must build the same model");
}

void broadcast_state(ProcessGroup& group, const std::vector<NamedTensor>& tensors) {
  for (const NamedTensor& entry : tensors) {  // one at a time: engines may copy
    const Tensor dense = ops::contiguous(ops::raw(entry.tensor));
    group.broadcast({dense}, 0).wait();
    if (dense.storage() != entry.tensor.storage()) ops::copy(entry.tensor, dense);
    entry.tensor.bump_version();
  }
}

}  // namespace tendril::dist
