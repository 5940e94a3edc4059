// What a function makes of the elements of another sequence.
#pragma once

#include <cstddef>

namespace thrust {

template <class Function, class Iterator>
class transform_iterator {
 public:
  transform_iterator(Iterator iterator, Function function)
      : iterator_(iterator), function_(function) {}
  auto operator*() const { return function_(*iterator_); }
  auto operator[](ptrdiff_t i) const { return function_(iterator_[i]); }
  transform_iterator operator+(ptrdiff_t i) const { return {iterator_ + i, function_}; }

 private:
  Iterator iterator_;
  Function function_;
};

template <class Iterator, class Function>
transform_iterator<Function, Iterator> make_transform_iterator(Iterator iterator,
                                                               Function function) {
  return {iterator, function};
}

}  // namespace thrust
