// example_from_json: numbers and nested arrays of numbers to tensors.
#include <cmath>
#include <limits>

#include <tendril/core/error.h>
#include <tendril/trainer/data/jsonl_dataset.h>

namespace tendril {
namespace {

// The shape by the first element of each level; whether the others agree shows in collect().
Shape shape_of(const Json& value) {
  Shape shape;
  for (const Json* level = &value; level->is_array(); level = &level->items()[0]) {
    TENDRIL_CHECK(shape.rank() < Shape::kMaxRank, "arrays may be nested ", Shape::kMaxRank,
                  " deep");
    shape.push_back(static_cast<int64_t>(level->items().size()));
    if (level->items().empty()) break;
  }
  return shape;
}

// All numbers in order.
void collect(const Json& value, const Shape& shape, int64_t axis, std::vector<const Json*>& out) {
  if (axis == shape.rank()) {
    TENDRIL_CHECK(value.is_number(),
                  value.is_array() ? "the arrays are nested unequally; got "
                                   : "only numbers and arrays of numbers can "
                                     "become tensors; got ",
                  value.dump().substr(0, 80),
                  value.is_array() ? "" : "; give the dataset a function that converts the rest");
    out.push_back(&value);
    return;
  }
  TENDRIL_CHECK(value.is_array() && static_cast<int64_t>(value.items().size()) == shape[axis],
                "the arrays are of unequal length; got ", value.dump().substr(0, 80), " where ",
                shape[axis], " elements should be");
  for (const Json& item : value.items()) collect(item, shape, axis + 1, out);
}

float float_of(const Json& number) {
  const std::string text = number.dump();
  TENDRIL_CHECK(
      text == "-0" || text.find_first_of(".eE") != std::string::npos || number.is_integer(),
      "the whole number ", text.substr(0, 40), " does not fit in 64 bits");
  const double value = number.as_double();
  TENDRIL_CHECK(std::abs(value) <= std::numeric_limits<float>::max(), "the number ",
                text.substr(0, 40), " does not fit in f32");
  return static_cast<float>(value);
}

Tensor tensor_from_json(const Json& value) {
  const Shape shape = shape_of(value);
  std::vector<const Json*> numbers;
  collect(value, shape, 0, numbers);
  bool whole = true;
  for (const Json* number : numbers) whole = whole && number->is_integer();
  const Tensor tensor = Tensor::empty(shape, whole ? i64 : f32);
  if (whole) {
    int64_t* out = tensor.data<int64_t>();
    for (const Json* number : numbers) *out++ = number->as_int();
  } else {
    float* out = tensor.data<float>();
    for (const Json* number : numbers) *out++ = float_of(*number);
  }
  return tensor;
}

}  // namespace

Example example_from_json(const Json& object) {
  TENDRIL_CHECK(object.is_object(), "[example_from_json] an example must be a JSON object; got ",
                object.dump().substr(0, 80));
  Example example;
  for (const auto& [name, value] : object.members()) {
    try {
      example[name] = tensor_from_json(value);
    } catch (const Error& error) {
      fail("[example_from_json] \"", name, "\": ", error.what());
    }
  }
  return example;
}

}  // namespace tendril
