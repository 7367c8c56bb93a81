// Plays random transfers in SimGrid and writes them with the finish time of each: see README.md beside this file.
//
//     g++ -O2 -std=c++17 make_cases.cpp -lsimgrid -o /tmp/make_cases && /tmp/make_cases .
//
// SimGrid has one engine a process, so each case is played in a child process of its own.

#include <simgrid/s4u.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace s4u = simgrid::s4u;
using std::string;
using std::vector;

namespace {

/// How a case's latencies reach SimGrid. The rule to be compared is the same in all: wait the route's latency, then flow.
enum class Latency {
  none,   // all links have latency 0
  link,   // as latency of SimGrid's links; every flow of the case has the same total
  start,  // totals differ: SimGrid's links have 0, and a flow starts later by its route's latency
};

struct Link {
  uint64_t bytes_per_s;
  uint64_t latency_ns;
};

struct Flow {
  uint64_t start_ns;
  uint64_t bytes;
  uint64_t cap_bytes_per_s; // 0: none
  vector<int> route;        // numbers of links
};

struct Case {
  string kind;
  Latency latency;
  vector<Link> links;
  vector<Flow> flows;
};

/// Integers that depend on the seed alone; the standard's distributions differ between libraries.
class Draw {
public:
  explicit Draw(uint64_t seed) : engine_(seed) {}
  uint64_t between(uint64_t low, uint64_t high) { return low + engine_() % (high - low + 1); }
  size_t below(size_t n) { return engine_() % n; }

private:
  std::mt19937_64 engine_;
};

uint64_t route_latency_ns(const Case& c, const Flow& f)
{
  uint64_t sum = 0;
  for (int link : f.route)
    sum += c.links[link].latency_ns;
  return sum;
}

/// One server link shared by n flows. `style` is the sort of contention, see README.md.
Case shared_link(int n, const string& style, Latency latency, Draw& draw)
{
  Case c{"shared-" + style, latency, {}, {}};
  const uint64_t capacity = draw.between(10, 125) * 1'000'000 + draw.below(1000);
  c.links.push_back({capacity, latency == Latency::none ? 0 : draw.between(1, 60) * 1'000'000});
  const uint64_t fair = capacity / n;
  for (int i = 0; i < n; i++) {
    Flow f{draw.between(0, 2'000'000'000), draw.between(100'000, 40'000'000 / (n / 10 + 1)), 0, {0}};
    if (style == "tied")
      f.start_ns = draw.below(3) * 500'000'000, f.bytes = 2'000'000;
    if (style == "caps" || style == "tied")
      f.cap_bytes_per_s = draw.between(fair / 5 + 1, fair * 3);
    if (style == "loose" && i % 2 == 0)
      f.cap_bytes_per_s = draw.between(fair, capacity * 2);
    c.flows.push_back(f);
  }
  if (latency == Latency::start) // Flow i's own access link carries its latency; it is never the bottleneck.
    for (int i = 0; i < n; i++) {
      c.links.push_back({capacity * 4, draw.between(0, 300) * 1'000'000});
      c.flows[i].route = {i + 1, 0};
    }
  return c;
}

/// Clients behind access links, regions and the server's link: route = access, region, server.
Case tree(int clients, int regions, int flows_each, Latency latency, Draw& draw)
{
  Case c{"tree", latency, {}, {}};
  auto wait_ns = [&](uint64_t low_ms, uint64_t high_ms) {
    if (latency == Latency::none)
      return uint64_t{0};
    return (latency == Latency::link ? low_ms : draw.between(low_ms, high_ms)) * 1'000'000;
  };
  c.links.push_back({draw.between(20, 60) * 1'000'000, wait_ns(5, 5)});
  for (int r = 0; r < regions; r++)
    c.links.push_back({draw.between(40, 160) * 1'000'000 / regions / 2, wait_ns(10, 40)});
  for (int i = 0; i < clients; i++) {
    const int region = 1 + static_cast<int>(draw.below(regions));
    c.links.push_back({draw.between(125'000, 6'250'000), wait_ns(20, 200)});
    for (int k = 0; k < flows_each; k++)
      c.flows.push_back({draw.between(0, 3'000'000'000), draw.between(50'000, 4'000'000), 0, {1 + regions + i, region, 0}});
  }
  return c;
}

/// A chain of links; each flow crosses a stretch of it, so it shares several links with different others.
Case chain(int length, int flows, Latency latency, Draw& draw)
{
  Case c{"chain", latency, {}, {}};
  for (int i = 0; i < length; i++)
    c.links.push_back({draw.between(1, 10) * 1'000'000 + draw.below(1000), latency == Latency::none ? 0 : draw.between(1, 50) * 1'000'000});
  for (int i = 0; i < flows; i++) {
    const size_t first = draw.below(length), last = first + draw.below(length - first);
    Flow f{draw.between(0, 4'000'000'000), draw.between(100'000, 8'000'000), 0, {}};
    for (size_t l = first; l <= last; l++)
      f.route.push_back(static_cast<int>(l));
    c.flows.push_back(f);
  }
  return c;
}

/// A square grid of routers, one link a direction between neighbours; a flow goes along its row, then along its column.
Case grid(int side, int flows, Latency latency, Draw& draw)
{
  Case c{"grid", latency, {}, {}};
  const int steps[4][2] = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}};
  for (int i = 0; i < side * side * 4; i++) // Link number = router * 4 + direction; those that leave the grid stay idle.
    c.links.push_back({draw.between(1, 12) * 500'000 + draw.below(1000), latency == Latency::none ? 0 : draw.between(1, 30) * 1'000'000});
  while (static_cast<int>(c.flows.size()) < flows) {
    int at[2] = {static_cast<int>(draw.below(side)), static_cast<int>(draw.below(side))};
    const int to[2] = {static_cast<int>(draw.below(side)), static_cast<int>(draw.below(side))};
    Flow f{draw.between(0, 4'000'000'000), draw.between(100'000, 6'000'000), 0, {}};
    for (int axis = 0; axis < 2; axis++)
      while (at[axis] != to[axis]) {
        const int direction = axis * 2 + (at[axis] < to[axis] ? 0 : 1);
        f.route.push_back((at[1] * side + at[0]) * 4 + direction);
        at[axis] += steps[direction][axis];
      }
    if (!f.route.empty())
      c.flows.push_back(f);
  }
  return c;
}

/// Any one to four links a flow, and a cap for some.
Case tangle(int links, int flows, Latency latency, Draw& draw)
{
  Case c{"tangle", latency, {}, {}};
  for (int i = 0; i < links; i++)
    c.links.push_back({draw.between(500'000, 20'000'000), latency == Latency::none ? 0 : draw.between(0, 80) * 1'000'000});
  for (int i = 0; i < flows; i++) {
    Flow f{draw.between(0, 3'000'000'000), draw.between(50'000, 9'000'000), i % 3 ? 0 : draw.between(100'000, 3'000'000), {}};
    const size_t hops = 1 + draw.below(4);
    while (f.route.size() < hops) {
      const int link = static_cast<int>(draw.below(links));
      if (std::find(f.route.begin(), f.route.end(), link) == f.route.end())
        f.route.push_back(link);
    }
    c.flows.push_back(f);
  }
  return c;
}

vector<Case> all_cases()
{
  Draw draw(20240601);
  vector<Case> cases;
  for (int n : {3, 5, 10, 30, 100, 200})
    for (const char* style : {"plain", "caps", "loose"})
      cases.push_back(shared_link(n, style, Latency::none, draw));
  for (int n : {4, 16, 64, 200})
    cases.push_back(shared_link(n, "tied", Latency::none, draw));
  for (int n : {3, 20, 80})
    cases.push_back(shared_link(n, "caps", Latency::link, draw));
  for (int n : {1, 8, 40})
    cases.push_back(shared_link(n, "plain", Latency::start, draw));
  for (Latency latency : {Latency::none, Latency::link, Latency::start}) {
    cases.push_back(tree(6, 2, 1, latency, draw));
    cases.push_back(tree(24, 3, 2, latency, draw));
    cases.push_back(tree(100, 8, 1, latency, draw));
  }
  for (Latency latency : {Latency::none, Latency::start}) {
    cases.push_back(chain(3, 8, latency, draw));
    cases.push_back(chain(8, 40, latency, draw));
    cases.push_back(grid(3, 20, latency, draw));
    cases.push_back(grid(5, 80, latency, draw));
    cases.push_back(tangle(5, 12, latency, draw));
    cases.push_back(tangle(12, 60, latency, draw));
    cases.push_back(tangle(30, 150, latency, draw));
  }
  return cases;
}

/// Plays one case; element i is the time at which flow i has been received [s].
vector<double> play(const Case& c)
{
  int argc = 1;
  string name = "make_cases";
  char* arguments[] = {name.data(), nullptr};
  char** argv = arguments;
  s4u::Engine engine(&argc, argv);
  for (const char* setting : {"network/model:CM02", "network/TCP-gamma:0", "network/bandwidth-factor:1", "network/latency-factor:1",
                              "network/weight-S:0", "network/crosstraffic:0", "surf/precision:1e-12", "maxmin/precision:1e-9"})
    s4u::Engine::set_config(setting);

  auto* zone = s4u::create_full_zone("world");
  vector<s4u::Link*> links;
  for (size_t i = 0; i < c.links.size(); i++) {
    auto* link = zone->create_link("link" + std::to_string(i), static_cast<double>(c.links[i].bytes_per_s));
    link->set_latency(c.latency == Latency::link ? c.links[i].latency_ns * 1e-9 : 0.0);
    links.push_back(link->seal());
  }
  vector<std::pair<s4u::Host*, s4u::Host*>> ends;
  for (size_t i = 0; i < c.flows.size(); i++) {
    const Flow& flow = c.flows[i];
    auto* from = zone->create_host("from" + std::to_string(i), 1e9)->seal();
    auto* to = zone->create_host("to" + std::to_string(i), 1e9)->seal();
    vector<s4u::LinkInRoute> route;
    if (flow.cap_bytes_per_s > 0) { // A cap is a link of the flow's own: set_rate is refused for transfers between hosts.
      auto* cap = zone->create_link("cap" + std::to_string(i), static_cast<double>(flow.cap_bytes_per_s));
      route.emplace_back(cap->set_latency(0.0)->seal());
    }
    for (int link : flow.route)
      route.emplace_back(links[link]);
    zone->add_route(from->get_netpoint(), to->get_netpoint(), nullptr, nullptr, route, false);
    ends.emplace_back(from, to);
  }
  zone->seal();

  vector<double> finish(c.flows.size(), -1.0);
  for (size_t i = 0; i < c.flows.size(); i++)
    s4u::Actor::create("flow" + std::to_string(i), ends[i].first, [&, i] {
      const Flow& flow = c.flows[i];
      const uint64_t wait_ns = c.latency == Latency::start ? route_latency_ns(c, flow) : 0;
      s4u::this_actor::sleep_until((flow.start_ns + wait_ns) * 1e-9);
      s4u::Comm::sendto(ends[i].first, ends[i].second, flow.bytes);
      finish[i] = s4u::Engine::get_clock();
    });
  engine.run();
  return finish;
}

/// Requires that SimGrid's own latencies are the same for all flows of a case, as its shares depend on them.
void check(const Case& c, const vector<double>& finish)
{
  for (size_t i = 0; i < c.flows.size(); i++) {
    if (finish[i] <= 0 || (c.latency == Latency::link && route_latency_ns(c, c.flows[i]) != route_latency_ns(c, c.flows[0]))) {
      std::fprintf(stderr, "case of kind %s, flow %zu: not finished, or of another latency\n", c.kind.c_str(), i);
      std::exit(1);
    }
  }
}

FILE* open_for(const string& path, const char* mode)
{
  FILE* file = std::fopen(path.c_str(), mode);
  if (file == nullptr) {
    std::perror(path.c_str());
    std::exit(1);
  }
  return file;
}

/// Adds the rows of case number `id` to the three tables.
void write(const string& folder, size_t id, const Case& c, const vector<double>& finish)
{
  const char* latencies[] = {"none", "link", "start"};
  FILE* file = open_for(folder + "/cases.csv", "a");
  std::fprintf(file, "%zu,%s,%s,%zu,%zu\n", id, c.kind.c_str(), latencies[static_cast<int>(c.latency)], c.links.size(), c.flows.size());
  std::fclose(file);
  file = open_for(folder + "/links.csv", "a");
  for (size_t i = 0; i < c.links.size(); i++)
    std::fprintf(file, "%zu,%zu,%lu,%lu\n", id, i, c.links[i].bytes_per_s, c.links[i].latency_ns);
  std::fclose(file);
  file = open_for(folder + "/flows.csv", "a");
  for (size_t i = 0; i < c.flows.size(); i++) {
    const Flow& f = c.flows[i];
    string route;
    for (int link : f.route)
      route += (route.empty() ? "" : " ") + std::to_string(link);
    const string cap = f.cap_bytes_per_s > 0 ? std::to_string(f.cap_bytes_per_s) : "";
    std::fprintf(file, "%zu,%zu,%lu,%lu,%s,%s,%.17g\n", id, i, f.start_ns, f.bytes, cap.c_str(), route.c_str(), finish[i]);
  }
  std::fclose(file);
}

void write_header(const string& path, const char* header)
{
  FILE* file = open_for(path, "w");
  std::fprintf(file, "%s\n", header);
  std::fclose(file);
}

} // namespace

int main(int argc, char** argv)
{
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  const string folder = argv[1];
  write_header(folder + "/cases.csv", "case,kind,latency,links,flows");
  write_header(folder + "/links.csv", "case,link,bytes_per_s,latency_ns");
  write_header(folder + "/flows.csv", "case,flow,start_ns,bytes,cap_bytes_per_s,route,finish_s");
  const vector<Case> cases = all_cases();
  for (size_t id = 0; id < cases.size(); id++) {
    const pid_t child = fork();
    if (child == 0) {
      const vector<double> finish = play(cases[id]);
      check(cases[id], finish);
      write(folder, id, cases[id], finish);
      std::exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
      std::fprintf(stderr, "case %zu failed\n", id);
      return 1;
    }
  }
  return 0;
}
