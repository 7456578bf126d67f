// Writes the flow Quest in C++, prints it as text with its hash, and shows the words of a mistake.
#include <vortex/error.h>
#include <vortex/flow.h>

#include <iostream>

int main() {
  vortex::flow::Flow quest("Quest", "An upper bound of q·k over each page.");
  quest.set("page_size", "16");
  quest.set("budget", "32");
  vortex::flow::Value k = quest.k();
  quest.summarize("lo", k.min("token"));
  quest.summarize("hi", k.max("token"));
  vortex::flow::Value q = quest.q();
  vortex::flow::Value bound = maximum(q * quest.summary("lo"), q * quest.summary("hi")).sum("dim");
  quest.score(bound.softmax("page").sum("head"));
  std::cout << quest.text() << "hash " << quest.hash() << "\n";

  try {
    k.min("tokens");
  } catch (const vortex::UserError& error) {
    std::cout << error.what() << "\n";
  }
}
