#include <doctest/doctest.h>

#include <clocale>
#include <cmath>
#include <limits>

#include <tendril/core/error.h>
#include <tendril/core/json.h>

#include "file_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {
Json parse(const std::string& text, JsonLimits limits = {}) {
  return Json::parse(text, "test", limits);
}
std::string parse_error(const std::string& text, JsonLimits limits = {}) {
  return error_of([&] { parse(text, limits); });
}
}  // namespace

TEST_SUITE_BEGIN("json");

TEST_CASE("json reads every kind of value") {
  const Json json = parse(R"( {"a": [1, -2.5e3, true, false, null], "b": {"c": "d"}, "": []} )");
  CHECK(json.members().size() == 3);
  CHECK(json.members()[0].first == "a");  // order is kept
  CHECK(json.members()[2].first == "");
  const auto& items = json.at("a").items();
  REQUIRE(items.size() == 5);
  CHECK(items[0].as_int() == 1);
  CHECK(items[0].as_double() == 1.0);
  CHECK(items[1].as_double() == -2500.0);
  CHECK(items[2].as_bool());
  CHECK_FALSE(items[3].as_bool());
  CHECK(items[4].is_null());
  CHECK(json.at("b").at("c").as_string() == "d");
  CHECK(json.find("missing") == nullptr);
}

TEST_CASE("json integers are exact to 64 bits and distinct from floats") {
  CHECK(parse("9223372036854775807").as_int() == std::numeric_limits<int64_t>::max());
  CHECK(parse("-9223372036854775808").as_int() == std::numeric_limits<int64_t>::min());
  for (const char* text :
       {"9223372036854775808", "1.0", "1e2", "-0", "0.5", "-9223372036854775809"}) {
    CAPTURE(text);
    CHECK_FALSE(parse(text).is_integer());
    CHECK(contains_text(error_of([&] { parse(text).as_int(); }), "not a 64-bit integer"));
  }
  CHECK(parse("9223372036854775808").as_double() == 0x1p63);
  CHECK(parse("1e-05").as_double() == 1e-5);
  CHECK(std::signbit(parse("-0").as_double()));
  CHECK(contains_text(error_of([] { parse("1e999").as_double(); }), "does not fit in a double"));
}

TEST_CASE("json strings: escapes and UTF-8") {
  CHECK(parse(R"("\"\\\/\b\f\n\r\t")").as_string() == "\"\\/\b\f\n\r\t");
  CHECK(parse(R"("\u0041\u00e9\u20AC\ud83d\ude00")").as_string() ==
        "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
  CHECK(parse(R"("\u0000x")").as_string() == std::string("\0x", 2));
  CHECK(parse("\"\xF0\x9F\x98\x80\"").as_string() == "\xF0\x9F\x98\x80");
  for (const char* bad : {R"("\ud83d")", R"("\ude00")", R"("\ud83d\u0041")", R"("\ud83d\ue000")",
                          R"("\ud83d\ud83d")", R"("\ud83dx")"})
    CHECK(contains_text(parse_error(bad), "lone surrogate"));
  CHECK(contains_text(parse_error(R"("\x41")"), "unknown escape"));
  CHECK(contains_text(parse_error(R"("\u12g4")"), "hexadecimal"));
  CHECK(contains_text(parse_error("\"a\nb\""), "must be escaped"));
  CHECK(contains_text(parse_error("\"abc"), "does not end"));
  CHECK(contains_text(parse_error("\"abc\\"), "unknown escape"));
}

TEST_CASE("json refuses malformed UTF-8") {
  CHECK(is_utf8(""));
  CHECK(is_utf8("\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF"));  // the edges of the valid ranges
  for (const char* bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xC3", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xE2\x82",
        "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "a\xC3\x28"}) {
    CHECK_FALSE(is_utf8(bad));
    CHECK(contains_text(parse_error('"' + std::string(bad) + '"'), "not valid UTF-8"));
  }
}

TEST_CASE("json refuses what RFC 8259 refuses") {
  for (const char* bad : {"",
                          " ",
                          "{",
                          "[",
                          "[1,]",
                          "{\"a\":1,}",
                          "[1 2]",
                          "{\"a\" 1}",
                          "{a:1}",
                          "{1:1}",
                          "01",
                          "+1",
                          "-",
                          "1.",
                          ".5",
                          "1e",
                          "1e+",
                          "0x1",
                          "NaN",
                          "Infinity",
                          "tru",
                          "nulll",
                          "'a'",
                          "[1]]",
                          "1 2",
                          "// c\n1",
                          "\xEF\xBB\xBF"
                          "1",
                          "[,1]",
                          "]",
                          "{\"a\"}",
                          "\v1"}) {
    CAPTURE(bad);
    CHECK(contains_text(parse_error(bad), "[json] test: "));
  }
  CHECK(contains_text(parse_error(std::string("1\0", 2)), "text after the value"));
}

TEST_CASE("json errors say where") {
  CHECK(contains_text(parse_error("{\n  \"a\": ?\n}"), "line 2, column 8"));
}

TEST_CASE("json refuses duplicate keys, also when spelled differently") {
  CHECK(contains_text(parse_error(R"({"a":1,"b":2,"a":3})"), "duplicate key \"a\""));
  CHECK(contains_text(parse_error(R"({"a":1,"\u0061":3})"), "duplicate key"));
  CHECK(parse_error(R"({"a":{"a":1}})").empty());
}

TEST_CASE("json bounds nesting and array length") {
  CHECK(parse_error("[[1]]", {.depth = 2}).empty());
  CHECK(contains_text(parse_error("[[[1]]]", {.depth = 2}), "nested too deeply"));
  CHECK(contains_text(parse_error(std::string(1'000'000, '[')), "nested too deeply"));
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  CHECK(contains_text(parse_error(objects), "nested too deeply"));
  CHECK(parse_error("[1,2]", {.array_items = 2}).empty());
  CHECK(contains_text(parse_error("[1,2,3]", {.array_items = 2}), "too long"));
}

TEST_CASE("json reading the wrong kind is an error") {
  const Json text = parse("\"x\"");
  CHECK(contains_text(error_of([&] { text.as_int(); }), "not an integer; got a string"));
  CHECK(contains_text(error_of([&] { text.as_double(); }), "not a number"));
  CHECK(contains_text(error_of([&] { text.as_bool(); }), "not a boolean"));
  CHECK(contains_text(error_of([&] { text.items(); }), "not an array"));
  CHECK(contains_text(error_of([&] { text.find("a"); }), "not an object"));
  CHECK(contains_text(error_of([] { parse("1").as_string(); }), "not a string; got a number"));
  CHECK(contains_text(error_of([] { parse("{}").at("a"); }), "no member \"a\""));
  CHECK(contains_text(error_of([] { Json(1).set("a", 2); }), "not an object"));
  CHECK(contains_text(error_of([] { Json(1).push_back(2); }), "not an array"));
}

TEST_CASE("json writes what it reads") {
  Json json = Json::object();
  json.set("n", 3)
      .set("x", 0.1)
      .set("ok", true)
      .set("none", nullptr)
      .set("s", "a\"\\\n\x01\xC3\xA9");
  json.set("list", Json::Array{1, int64_t{-9007199254740993}, 2.5}).set("empty", Json::array());
  json.set("n", 4);  // replaces, keeps the place
  const std::string compact = json.dump();
  CHECK(compact ==
        "{\"n\":4,\"x\":0.1,\"ok\":true,\"none\":null,\"s\":\"a\\\"\\\\\\n\\u0001\xC3\xA9\","
        "\"list\":[1,-9007199254740993,2.5],\"empty\":[]}");
  CHECK(parse(compact).dump() == compact);
  CHECK(parse(json.dump(2)).dump() == compact);
  CHECK(parse(R"({"a":[1],"b":{}})").dump(2) == "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}");
  for (const double value : {1e300, 5e-324, -1.0 / 3, 123456789012345680.0, 3.0})
    CHECK(parse(Json(value).dump()).as_double() == value);
}

TEST_CASE("json cannot say NaN, infinity or broken text") {
  CHECK(contains_text(error_of([] { Json(NAN); }), "finite"));
  CHECK(contains_text(error_of([] { Json(-INFINITY); }), "finite"));
  CHECK(contains_text(error_of([] { json_quote("\xFF"); }), "UTF-8"));
}

TEST_SUITE_END();
