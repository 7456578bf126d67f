// The flows that GPU tests run, as IR text: a config line is put in.
#pragma once

#include <string>
#include <vector>

namespace vortex::testing {

struct NamedFlow {
  std::string name, body;
  // `config`: "budget=8 page_size=16".
  std::string text(const std::string& config) const {
    return "vortex_ir 1\nflow \"" + name + "\"\nconfig " + config + "\n" + body;
  }
};

// The score of a page as its share: the softmax over pages of the logits %logit, summed over heads.
inline std::string share_of(int logit) {
  std::string from = std::to_string(logit), share = std::to_string(logit + 1), sum = std::to_string(logit + 2), out;
  out.append("%").append(share).append(" = softmax(%").append(from).append(", axis=\"page\")\n");
  out.append("%").append(sum).append(" = sum(%").append(share).append(", axis=\"head\")\n");
  return out.append("score = %").append(sum).append("\n");
}

inline NamedFlow centroid_flow() {
  return {"centroid", R"(%0 = page_k()
%1 = mean(%0, axis="token")
summary centroid = %1
%2 = q()
%3 = summary(name="centroid")
%4 = dot(%2, %3, over="dim")
)" + share_of(4)};
}

inline NamedFlow quest_flow() {
  return {"quest", R"(%0 = page_k()
%1 = min(%0, axis="token")
%2 = max(%0, axis="token")
summary lo = %1
summary hi = %2
%3 = q()
%4 = summary(name="lo")
%5 = mul(%3, %4)
%6 = summary(name="hi")
%7 = mul(%3, %6)
%8 = maximum(%5, %7)
%9 = sum(%8, axis="dim")
)" + share_of(9)};
}

inline NamedFlow mean_deviation_flow() {
  return {"mean_deviation", R"(%0 = page_k()
%1 = mean(%0, axis="token")
%2 = mul(%0, %0)
%3 = mean(%2, axis="token")
%4 = mul(%1, %1)
%5 = sub(%3, %4)
%6 = relu(%5)
%7 = sqrt(%6)
summary mean = %1
summary deviation = %7
%8 = q()
%9 = summary(name="mean")
%10 = dot(%8, %9, over="dim")
%11 = abs(%8)
%12 = summary(name="deviation")
%13 = dot(%11, %12, over="dim")
%14 = constant(value=0.5)
%15 = mul(%13, %14)
%16 = add(%10, %15)
)" + share_of(16)};
}

// Means of four tokens, as queries and keys meet in the learned channels "wq" and "wk", [dim, 16].
inline NamedFlow learned_flow() {
  return {"learned", R"(%0 = page_k()
%1 = split(%0, axis="token", name="sub", size=4)
%2 = mean(%1, axis="sub")
%3 = param(name="wk", axes="dim, low=16")
%4 = dot(%2, %3, over="dim")
summary low = %4
%5 = q()
%6 = param(name="wq", axes="dim, low=16")
%7 = dot(%5, %6, over="dim")
%8 = summary(name="low")
%9 = dot(%7, %8, over="low")
%10 = max(%9, axis="token")
)" + share_of(10)};
}

// The centroid's logits, smoothed over three pages.
inline NamedFlow smoothed_flow() {
  return {"smoothed", R"(%0 = page_k()
%1 = mean(%0, axis="token")
summary centroid = %1
%2 = q()
%3 = summary(name="centroid")
%4 = dot(%2, %3, over="dim")
%5 = shift(%4, by=1, other=-2)
%6 = shift(%4, by=-1)
%7 = add(%5, %6)
%8 = constant(value=0.5)
%9 = mul(%7, %8)
%10 = add(%4, %9)
)" + share_of(10)};
}

// Shares of pages, scaled by those of their groups of four.
inline NamedFlow grouped_flow() {
  return {"grouped", R"(%0 = group_k(size=4)
%1 = mean(%0, axis="token")
summary together = %1
%2 = page_k()
%3 = mean(%2, axis="token")
summary centroid = %3
%4 = q()
%5 = summary(name="together")
%6 = dot(%4, %5, over="dim")
%7 = softmax(%6, axis="page")
%8 = spread(%7, other=0.01)
%9 = summary(name="centroid")
%10 = dot(%4, %9, over="dim")
%11 = softmax(%10, axis="page")
%12 = mul(%8, %11)
%13 = sum(%12, axis="head")
score = %13
)"};
}

// What attention has kept coming back to, fading; the row's own pace of fading depends on what it has seen.
inline NamedFlow gathering_flow() {
  return {"gathering", R"(%0 = page_k()
%1 = mean(%0, axis="token")
summary mean = %1
%2 = q()
%3 = summary(name="mean")
%4 = dot(%2, %3, over="dim")
%5 = softmax(%4, axis="page")
%6 = mean(%5, axis="head")
%7 = page_state(name="gathered", initial=0.25, axes="")
%8 = constant(value=0.75)
%9 = mul(%7, %8)
%10 = add(%9, %6)
state gathered = %10
%11 = max(%6, axis="page")
%12 = seq_state(name="most", initial=0.5, axes="")
%13 = maximum(%11, %12)
state most = %13
%14 = mul(%6, %13)
%15 = add(%10, %14)
score = %15
)"};
}

// Pages that hold 0.7 of the estimated attention, at most 20: a set of any size.
inline NamedFlow top_p_flow() {
  return {"top_p", R"(%0 = page_k()
%1 = mean(%0, axis="token")
summary mean = %1
%2 = q()
%3 = summary(name="mean")
%4 = dot(%2, %3, over="dim")
%5 = softmax(%4, axis="page")
%6 = mean(%5, axis="head")
%7 = constant(value=0.7)
%8 = top_p(%6, %7)
%9 = constant(value=20)
%10 = top_k(%6, %9)
%11 = both(%8, %10)
select = %11
)"};
}

// Six pages by their mean key, five by Quest's bound.
inline NamedFlow two_streams_flow() {
  return {"two_streams", R"(%0 = page_k()
%1 = mean(%0, axis="token")
%2 = min(%0, axis="token")
%3 = max(%0, axis="token")
summary mean = %1
summary lo = %2
summary hi = %3
%4 = q()
%5 = summary(name="mean")
%6 = dot(%4, %5, over="dim")
%7 = softmax(%6, axis="page")
%8 = sum(%7, axis="head")
%9 = summary(name="lo")
%10 = mul(%4, %9)
%11 = summary(name="hi")
%12 = mul(%4, %11)
%13 = maximum(%10, %12)
%14 = sum(%13, axis="dim")
%15 = softmax(%14, axis="page")
%16 = sum(%15, axis="head")
%17 = constant(value=6)
%18 = top_k(%8, %17)
%19 = constant(value=5)
%20 = top_k(%16, %19)
%21 = either(%18, %20)
select = %21
)"};
}

// The centroid's pages, and the others estimated from mean keys and values.
inline NamedFlow rest_flow() {
  return {"rest", R"(%0 = page_k()
%1 = page_v()
%2 = mean(%0, axis="token")
%3 = mean(%1, axis="token")
summary key = %2
summary value = %3
%4 = q()
%5 = summary(name="key")
%6 = dot(%4, %5, over="dim")
%7 = summary(name="value")
%8 = page_tokens()
%9 = log(%8)
%10 = add(%6, %9)
%11 = softmax(%6, axis="page")
%12 = sum(%11, axis="head")
score = %12
rest_logit = %10
rest_value = %7
)"};
}

// The best groups of four pages by their means, then only their pages, by their own.
inline NamedFlow confined_flow() {
  return {"confined", R"(%0 = group_k(size=4)
%1 = mean(%0, axis="token")
summary together = %1
%2 = page_k()
%3 = mean(%2, axis="token")
summary mean = %3
%4 = q()
%5 = summary(name="together")
%6 = dot(%4, %5, over="dim")
%7 = softmax(%6, axis="page")
%8 = sum(%7, axis="head")
%9 = constant(value=5)
%10 = top_k(%8, %9)
%11 = spread(%10, other=1)
%12 = members(%11)
%13 = summary(name="mean")
%14 = confine(%13, %12)
%15 = dot(%4, %14, over="dim")
%16 = softmax(%15, axis="page")
%17 = sum(%16, axis="head")
score = %17
)"};
}

// The centroid's pages, more of them in later layers and in longer sequences.
inline NamedFlow budgeted_flow() {
  return {"budgeted", R"(%0 = page_k()
%1 = mean(%0, axis="token")
summary centroid = %1
%2 = q()
%3 = summary(name="centroid")
%4 = dot(%2, %3, over="dim")
%5 = sum(%4, axis="head")
score = %5
%6 = seq_pages()
%7 = constant(value=0.15)
%8 = mul(%6, %7)
%9 = layer_index()
%10 = add(%8, %9)
%11 = constant(value=3)
%12 = add(%10, %11)
budget = %12
)"};
}

// A page that the last step chose counts half as much again.
inline NamedFlow hysteresis_flow() {
  return {"hysteresis", R"(%0 = page_k()
%1 = mean(%0, axis="token")
summary mean = %1
%2 = q()
%3 = summary(name="mean")
%4 = dot(%2, %3, over="dim")
%5 = softmax(%4, axis="page")
%6 = sum(%5, axis="head")
%7 = page_state(name="held", initial=0, axes="")
%8 = constant(value=0.5)
%9 = mul(%8, %7)
%10 = constant(value=1)
%11 = add(%10, %9)
%12 = mul(%6, %11)
%13 = seq_left()
%14 = top_k(%12, %13)
%15 = constant(value=0)
%16 = where(%14, %10, %15)
state held = %16
select = %14
)"};
}

// Quest's bounds of groups of eight, then of the pages of the best groups.
inline NamedFlow hierarchical_flow() {
  return {"hierarchical", R"(%0 = page_k()
%1 = min(%0, axis="token")
summary lo = %1
%2 = max(%0, axis="token")
summary hi = %2
%3 = group_k(size=8)
%4 = min(%3, axis="token")
summary group8_lo = %4
%5 = max(%3, axis="token")
summary group8_hi = %5
%6 = q()
%7 = summary(name="group8_lo")
%8 = mul(%6, %7)
%9 = summary(name="group8_hi")
%10 = mul(%6, %9)
%11 = maximum(%8, %10)
%12 = sum(%11, axis="dim")
%13 = softmax(%12, axis="page")
%14 = sum(%13, axis="head")
%15 = seq_left()
%16 = constant(value=0.25)
%17 = mul(%16, %15)
%18 = top_k(%14, %17)
%19 = spread(%18, other=1, size=1)
%20 = members(%19)
%21 = summary(name="lo")
%22 = confine(%21, %20)
%23 = mul(%6, %22)
%24 = summary(name="hi")
%25 = confine(%24, %20)
%26 = mul(%6, %25)
%27 = maximum(%23, %26)
%28 = sum(%27, axis="dim")
%29 = softmax(%28, axis="page")
%30 = sum(%29, axis="head")
score = %30
)"};
}

// The centroid's pages; the others count as their tokens at the mean of their group of eight.
inline NamedFlow rest_groups_flow() {
  return {"rest_groups", R"(%0 = page_k()
%1 = mean(%0, axis="token")
summary key = %1
%2 = group_k(size=8)
%3 = mean(%2, axis="token")
summary group8_key = %3
%4 = group_v(size=8)
%5 = mean(%4, axis="token")
summary group8_value = %5
%6 = q()
%7 = summary(name="key")
%8 = dot(%6, %7, over="dim")
%9 = softmax(%8, axis="page")
%10 = sum(%9, axis="head")
%11 = summary(name="group8_key")
%12 = dot(%6, %11, over="dim")
%13 = spread(%12, other=-inf, size=1)
%14 = page_tokens()
%15 = log(%14)
%16 = add(%13, %15)
%17 = summary(name="group8_value")
%18 = spread(%17, other=0, size=1)
score = %10
rest_logit = %16
rest_value = %18
)"};
}

// Every kind of op the printer knows: shape ops, short and long axes, reductions and `along` over pages, sources,
// random.
inline NamedFlow everything_flow() {
  return {"everything", R"(%0 = page_k()
%1 = page_v()
%2 = split(%0, axis="token", name="sub", size=4)
%3 = mean(%2, axis="sub")
%4 = slice(%3, axis="dim", start=0, stop=4)
%5 = merge(%4, axis="token", inner="dim")
%6 = max(%5, axis="token")
%7 = norm(%1, axis="dim")
%8 = logsumexp(%7, axis="token")
%9 = slice(%0, axis="dim", start=1, stop=9)
%10 = min(%9, axis="token")
%11 = rename(%10, axis="dim", to="part")
%12 = softmax(%11, axis="part")
summary peak = %6
summary size = %8
summary part = %12
%13 = q()
%14 = summary(name="part")
%15 = slice(%13, axis="dim", start=1, stop=9)
%16 = rename(%15, axis="dim", to="part")
%17 = dot(%16, %14, over="part")
%18 = tanh(%17)
%19 = max(%18, axis="page")
%20 = sub(%18, %19)
%21 = cumsum(%20, axis="page")
%22 = norm(%21, axis="head")
%23 = summary(name="size")
%24 = summary(name="peak")
%25 = add(%22, %23)
%26 = add(%25, %24)
%27 = normalize(%26, axis="page")
%28 = page_index()
%29 = seq_step()
%30 = random(%28, %29)
%31 = add(%27, %30)
%32 = seq_tokens()
%33 = layer_index()
%34 = where(%33, %31, %32)
%35 = clamp(%34, low=-4, high=4)
%36 = silu(%35)
score = %36
)"};
}

}  // namespace vortex::testing
