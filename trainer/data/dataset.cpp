#include <tendril/core/error.h>
#include <tendril/trainer/data/dataset.h>

namespace tendril {

Dataset::~Dataset() = default;

ExampleStream::~ExampleStream() = default;

int64_t ExampleStream::skip(int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (!next()) return i;
  return count;
}

Example IterableDataset::get(int64_t index) const {
  fail("[get] an iterable dataset has no example ", index, " to ask for; walk over iterate()");
}

}  // namespace tendril
