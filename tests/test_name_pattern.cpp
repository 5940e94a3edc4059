#include <doctest/doctest.h>

#include <string>

#include <tendril/core/error.h>
#include <tendril/core/name_pattern.h>

TEST_SUITE("name pattern") {
  TEST_CASE("an expression matches whole names") {
    const tendril::NamePattern pattern("key", R"(transformer\.h\.[0-3]\.attn)");
    CHECK(pattern.matches("transformer.h.2.attn"));
    CHECK_FALSE(pattern.matches("transformer.h.4.attn"));
    CHECK_FALSE(pattern.matches("transformer.h.2.attn.c_proj"));
    CHECK_FALSE(pattern.matches("a.transformer.h.2.attn"));
    CHECK_FALSE(pattern.matches("transformerxh.2.attn"));
    const tendril::NamePattern copy = pattern;
    CHECK(copy.matches("transformer.h.0.attn"));
  }

  TEST_CASE("what is no expression is an error that names its key") {
    std::string message;
    try {
      tendril::NamePattern("some_key", "attn(");
    } catch (const tendril::Error& error) {
      message = error.what();
    }
    CHECK(message.starts_with("[some_key] \"attn(\" is no regular expression"));
  }
}
