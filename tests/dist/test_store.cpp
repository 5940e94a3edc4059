#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <memory>
#include <random>
#include <thread>

#include <tendril/dist/store/store.h>
#include <tendril/dist/store/store_address.h>
#include <tendril/dist/store/store_server.h>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::dist;
using namespace tendril::testing;
using namespace std::chrono_literals;

namespace {

constexpr auto kPatience = 30s;  // what takes no time may take long on a busy machine

Clock::time_point in(std::chrono::milliseconds time) { return Clock::now() + time; }

StoreAddress address_of(const StoreServer& server, const std::string& host = "127.0.0.1") {
  return {host, server.port(), "token"};
}

std::string random_bytes(std::mt19937& random, size_t count) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) bytes += static_cast<char>(random() % 256);
  return bytes;
}

// Whether the server hangs up on whoever sends these bytes.
bool is_disconnected_after(const StoreServer& server, const std::string& bytes) {
  const Descriptor socket = connect_to("127.0.0.1", server.port(), in(kPatience));
  try {
    send_all(socket, bytes, in(kPatience));
    std::array<char, 256> answer;
    while (receive_some(socket, answer, in(kPatience), Descriptor()) > 0) {
    }
  } catch (const ConnectionLost&) {
    return true;
  }
  return false;
}

std::string hello(const std::string& token = "token") {
  return encode({Frame::hello, 0, std::string(Frame::protocol), token});
}

}  // namespace

TEST_SUITE("store") {
  TEST_CASE("values, counters and keys that are set once") {
    const StoreServer server("127.0.0.1", 0, "token");
    Store one(address_of(server), in(kPatience)), two(address_of(server), in(kPatience));
    one.set("a", "first");
    two.set("a", std::string("sec\0nd", 6));
    CHECK(one.get("a", 0ms)->value == std::string("sec\0nd", 6));
    one.set_once("a", "third");
    one.set_once("b", "only");
    CHECK(two.get("a", 0ms)->value == std::string("sec\0nd", 6));
    CHECK(two.get("b", 0ms)->value == "only");
    CHECK(one.add("n", 5) == 5);
    CHECK(two.add("n", -7) == -2);
    CHECK(one.get("n", 0ms)->value == "-2");
    CHECK(message_of([&] { one.add("a", 1); }) == "[store] refused a: this is no counter");
    CHECK_FALSE(one.get("missing", 0ms));
    CHECK(one.add("n", 0) == -2);  // the connection is still good
  }

  TEST_CASE("get waits, until the time is over or somebody interrupts it") {
    const StoreServer server("127.0.0.1", 0, "token");
    Store reader(address_of(server), in(kPatience)), writer(address_of(server), in(kPatience));
    auto begin = Clock::now();
    CHECK_FALSE(reader.get("late", 30ms));
    CHECK(Clock::now() - begin >= 30ms);

    std::thread later([&] {
      std::this_thread::sleep_for(20ms);
      writer.set("late", "here");
    });
    CHECK(reader.get("late", kPatience)->value == "here");
    later.join();

    begin = Clock::now();
    std::thread interrupts([&] {
      std::this_thread::sleep_for(20ms);
      reader.interrupt();
    });
    CHECK_FALSE(reader.get("never", 2 * kPatience));
    interrupts.join();
    CHECK(Clock::now() - begin < kPatience);
    writer.set("never", "late answer of another question");
    CHECK(reader.get("late", 0ms)->value == "here");  // answers still belong to their questions
    std::this_thread::sleep_for(15ms);
    CHECK(reader.get("late", 0ms)->age >= 15ms);
  }

  TEST_CASE("a will is carried out at once when its connection ends") {
    const StoreServer server("127.0.0.1", 0, "token");
    Store watcher(address_of(server), in(kPatience));
    auto mortal = std::make_unique<Store>(address_of(server), in(kPatience));
    mortal->will("death", "gone too early");
    mortal->will("death", "gone");
    CHECK_FALSE(watcher.get("death", 20ms));
    std::thread ends([&] {
      std::this_thread::sleep_for(20ms);
      mortal.reset();
    });
    const auto begin = Clock::now();
    CHECK(watcher.get("death", kPatience)->value == "gone");
    CHECK(Clock::now() - begin < 10s);  // lost connections are noticed after 15
    ends.join();

    auto second = std::make_unique<Store>(address_of(server), in(kPatience));
    second->will("death", "does not replace the first");
    second.reset();
    auto third = std::make_unique<Store>(address_of(server), in(kPatience));
    third->will("other", "taken back");
    third->will("other", "");
    third.reset();
    CHECK_FALSE(watcher.get("other", 50ms));
    CHECK(watcher.get("death", 0ms)->value == "gone");
  }

  TEST_CASE("IPv4, IPv6 and names") {
    for (const std::string host : {"127.0.0.1", "localhost", "::1", "0.0.0.0"}) {
      CAPTURE(host);
      std::unique_ptr<StoreServer> server;
      try {
        server = std::make_unique<StoreServer>(host, 0, "token");
      } catch (const Error& error) {
        REQUIRE(host == "::1");
        MESSAGE("skipped: no IPv6 here: ", error.what());
        continue;
      }
      const std::string target = host == "0.0.0.0" ? "127.0.0.1" : host;
      Store store(address_of(*server, target), in(kPatience));
      CHECK(store.add("n", 1) == 1);
    }
  }

  TEST_CASE("ranks that can exchange a text find the store by it") {
    const std::string token = make_token();
    CHECK(token.size() == 32);
    CHECK(token != make_token());
    const StoreServer server("", 0, token);
    const StoreAddress found = find_store(describe_address(server.port(), token), in(kPatience));
    Store store(found, in(kPatience));
    CHECK(store.add("n", 1) == 1);
    const std::string wrong = describe_address(server.port(), make_token());
    CHECK(contains(message_of([&] { find_store(wrong, in(10ms)); }), "is not rank 0 of this job"));
  }

  TEST_CASE("clients hear that the store ends in good order") {
    auto server = std::make_unique<StoreServer>("127.0.0.1", 0, "token");
    Store waits(address_of(*server), in(kPatience)), idle(address_of(*server), in(kPatience));
    std::thread ends([&] {
      std::this_thread::sleep_for(20ms);
      server.reset();
    });
    const auto is_orderly = [](const auto& call) {
      try {
        call();
      } catch (const ConnectionLost& lost) {
        return lost.is_orderly();
      }
      return false;
    };
    CHECK(is_orderly([&] { waits.get("x", kPatience); }));
    ends.join();
    CHECK(is_orderly([&] { idle.set("x", "y"); }));
  }

  TEST_CASE("a server waits for its clients to leave") {
    StoreServer server("127.0.0.1", 0, "token");
    auto client = std::make_unique<Store>(address_of(server), in(kPatience));
    client->add("n", 1);
    auto begin = Clock::now();
    server.wait_until_alone(in(30ms));
    CHECK(Clock::now() - begin >= 30ms);
    client.reset();
    begin = Clock::now();
    server.wait_until_alone(in(2 * kPatience));
    CHECK(Clock::now() - begin < kPatience);
  }

  TEST_CASE("what cannot be reached is named") {
    int port = 0;
    {
      const StoreServer server("127.0.0.1", 0);
      port = server.port();
      CHECK(contains(message_of([&] { StoreServer second("127.0.0.1", port); }),
                     "[store] rank 0 cannot listen at port " + std::to_string(port)));
    }
    const auto begin = Clock::now();
    CHECK(contains(message_of([&] {
                     Store store({"127.0.0.1", port}, in(50ms));
                   }),
                   "[store] cannot reach rank 0 at 127.0.0.1 port " + std::to_string(port)));
    CHECK(Clock::now() - begin < kPatience);
    CHECK(contains(message_of([&] {
                     Store store({"no.such.host.invalid", 1}, in(10ms));
                   }),
                   "no.such.host.invalid"));
  }

  TEST_CASE("another program at the port is told from the store") {
    const Descriptor listener = listen_at("127.0.0.1", 0);
    std::atomic<bool> ends = false;
    std::thread other([&] {
      while (!ends) {
        const Descriptor socket = accept_from(listener);
        if (socket.is_open())
          send_all(socket, std::string("HTTP/1.1 400 Bad Request\r\n"), in(kPatience));
        std::this_thread::sleep_for(2ms);
      }
    });
    const int port = port_of(listener);
    CHECK(contains(message_of([&] {
                     Store store({"127.0.0.1", port}, in(60ms));
                   }),
                   "is not rank 0 of this job; choose another MASTER_PORT"));
    ends = true;
    other.join();
  }

  TEST_CASE("garbage at the port does no harm") {
    const StoreServer server("127.0.0.1", 0, "token");
    Store good(address_of(server), in(kPatience));
    CHECK(is_disconnected_after(server, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    CHECK(is_disconnected_after(server, std::string(64, '\xff')));
    CHECK(is_disconnected_after(server, std::string(64, '\0')));
    CHECK(is_disconnected_after(server, hello("wrong token")));
    CHECK(is_disconnected_after(server, encode({Frame::get, 0, "before hello", ""})));
    CHECK(is_disconnected_after(server, hello() + encode({99, 0, "", ""})));
    CHECK(is_disconnected_after(server, hello() + hello()));
    CHECK(is_disconnected_after(server, hello() + std::string("\xff\xff\xff\x7f")));
    std::string key_too_long = encode({Frame::set, 0, "key", "value"});
    key_too_long[4 + 9] = '\x7f';
    CHECK(is_disconnected_after(server, hello() + key_too_long));
    // Greets, asks for much, and never reads.
    const Descriptor greedy = connect_to("127.0.0.1", server.port(), in(kPatience));
    good.set("large", std::string(900'000, 'x'));
    std::string requests = hello();
    for (int i = 0; i < 100; ++i) requests += encode({Frame::get, 1 << 30, "large", ""});
    send_all(greedy, requests, in(kPatience));
    // Half a message and silence.
    const Descriptor silent = connect_to("127.0.0.1", server.port(), in(kPatience));
    send_all(silent, hello().substr(0, 7), in(kPatience));
    CHECK(good.add("n", 1) == 1);

    std::mt19937 random(7);
    for (int round = 0; round < 100; ++round) {
      const Descriptor socket = connect_to("127.0.0.1", server.port(), in(kPatience));
      std::string bytes = hello() + encode({static_cast<uint8_t>(1 + random() % 8),
                                            static_cast<int64_t>(random()) << (random() % 40),
                                            "fuzz", random_bytes(random, random() % 50)});
      const size_t begin = random() % 2 ? hello().size() : 0;
      for (int flips = 0; flips < 3; ++flips)
        bytes[begin + random() % (bytes.size() - begin)] ^= static_cast<char>(1 << (random() % 8));
      try {
        send_all(socket, bytes + random_bytes(random, random() % 30), in(kPatience));
      } catch (const ConnectionLost&) {  // was refused before it had sent everything
      }
    }
    CHECK(good.add("n", 1) == 2);
    CHECK(good.get("large", 0ms)->value.size() == 900'000);
  }

  TEST_CASE("the store does not grow without bound") {
    const StoreServer server("127.0.0.1", 0, "token");
    Store store(address_of(server), in(kPatience));
    CHECK(contains(message_of([&] { store.set("k", std::string(size_t{2} << 20, 'x')); }),
                   "a value may have about 1 MiB"));
    const std::string large(1'000'000, 'x');
    std::string refusal;
    for (int i = 0; i < 80 && refusal.empty(); ++i)
      refusal = message_of([&] { store.set("k" + std::to_string(i), large); });
    CHECK(contains(refusal, "the store is full"));
    store.set("k0", "small");  // room again
    store.set("again", large);
    CHECK(store.get("again", 0ms)->value == large);
  }

  TEST_CASE("frames survive the wire in any cut; others are Errors") {
    const Frame frame{Frame::add, -5, "key", std::string("va\0lue", 6)};
    const std::string bytes = encode(frame) + encode({Frame::get, 1, "", ""});
    std::string arrived;
    std::vector<Frame> frames;
    for (const char byte : bytes) {
      arrived += byte;
      while (auto next = take_frame(arrived)) frames.push_back(*next);
    }
    REQUIRE(frames.size() == 2);
    CHECK(frames[0].kind == Frame::add);
    CHECK(frames[0].number == -5);
    CHECK(frames[0].key == "key");
    CHECK(frames[0].value == std::string("va\0lue", 6));
    CHECK(frames[1].kind == Frame::get);
    CHECK(arrived.empty());

    std::mt19937 random(3);
    int errors = 0;
    for (int round = 0; round < 2000; ++round) {
      std::string noise = random_bytes(random, random() % 40);
      if (noise.size() > 4 && random() % 2) noise[1] = noise[2] = noise[3] = 0;
      errors += !message_of([&] {
                   while (take_frame(noise)) {
                   }
                 }).empty();
    }
    CHECK(errors > 500);
  }
}
