// The box to type into: runs the firmware's C, compiled to WebAssembly, over the model image.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const settings = JSON.parse(byId("settings").textContent);
  const bytesOf = (id) => Uint8Array.from(atob(byId(id).textContent), (c) => c.charCodeAt(0));
  const answerLine = byId("answer");
  const inputs = [byId("text"), byId("pair")].filter(Boolean);
  const mostLogits = 10;
  let engine = null;

  const memory = (at, count) => new Uint8Array(engine.memory.buffer, at, count);
  const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");

  function stringAt(at) {
    const all = new Uint8Array(engine.memory.buffer);
    return new TextDecoder().decode(all.subarray(at, all.indexOf(0, at)));
  }

  async function load() {
    const made = await WebAssembly.instantiate(bytesOf("program"), {});
    engine = made.instance.exports;
    const image = bytesOf("image");
    const at = engine.place(image.length);
    if (at === 0) throw new Error("the browser has no memory for the model");
    memory(at, image.length).set(image);
    const status = engine.open(at, image.length);
    if (status !== 0) throw new Error(stringAt(engine.message(status)));
  }

  // Instructions of a Cortex-M4; null where nobody has counted them.
  function instructionsOf(tokens, bytes) {
    const infer = settings.instructions[tokens - 1];
    if (infer === undefined) return null;
    // A text that fills the model is read no further; most have four bytes a token.
    const read = tokens === settings.maxTokens ? Math.min(bytes, 4 * tokens) : bytes;
    return Math.round(infer + read * settings.perByte);
  }

  // What the firmware answers: its words, token ids, int8 logits, and what it would cost.
  function classify(text, pair) {
    if (engine === null) return { error: "The model is not loaded." };
    const encoder = new TextEncoder();
    const first = encoder.encode(text);
    const second = encoder.encode(settings.pair ? pair : "");
    if (first.length + second.length > engine.text_bytes()) {
      return { error: `Too long: at most ${grouped(engine.text_bytes())} bytes.` };
    }
    memory(engine.text(), first.length).set(first);
    memory(engine.text() + first.length, second.length).set(second);
    const status = engine.classify(first.length, second.length);
    if (status !== 0) return { error: stringAt(engine.message(status)) };
    const count = engine.tokens();
    return {
      answer: stringAt(engine.answer()),
      sure: engine.sure() !== 0,
      ids: Array.from(new Uint16Array(engine.memory.buffer, engine.ids(), count)),
      logits: Array.from(new Int8Array(engine.memory.buffer, engine.logits(), engine.labels())),
      instructions: instructionsOf(count, first.length + second.length),
    };
  }

  function element(name, text, className) {
    const made = document.createElement(name);
    made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function showTokens(ids) {
    byId("tokens").replaceChildren(...ids.map((id) => {
      const item = element("li", `${settings.tokens[id] ?? ""} `);
      item.append(element("small", id));
      return item;
    }));
  }

  function showLogits(logits) {
    const most = Math.max(...logits);
    const weights = logits.map((logit) => Math.exp((logit - most) * settings.scale));
    const sum = weights.reduce((a, b) => a + b, 0);
    const order = logits.map((_, i) => i).sort((a, b) => logits[b] - logits[a] || a - b);
    byId("logits").replaceChildren(...order.slice(0, mostLogits).map((i) => {
      const row = document.createElement("tr");
      const head = element("th", settings.labels[i] ?? "score");
      head.scope = "row";
      row.append(head, element("td", logits[i], "n"));
      if (settings.labels.length > 0) {
        row.append(element("td", `${(100 * weights[i] / sum).toFixed(2)} %`, "n"));
      }
      return row;
    }));
  }

  function say(words, state) {
    answerLine.textContent = words;
    answerLine.dataset.state = state;
  }

  function ask() {
    // As the prompt does: blanks around a text are none of it.
    const [text, pair] = inputs.map((input) => input.value.replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, ""));
    if (inputs.some((input) => input.value.trim() === "")) {
      say(settings.pair ? "Type both texts." : "Type a sentence.", "ready");
      showTokens([]);
      byId("logits").replaceChildren();
      return;
    }
    const result = classify(text, pair);
    if (result.error) {
      say(result.error, "error");
      return;
    }
    const cost = result.instructions === null
      ? "" : `, about ${grouped(result.instructions)} instructions`;
    const tokens = `${result.ids.length} tokens`;
    say(`${result.answer} (${tokens}${cost})`, result.sure ? "sure" : "unsure");
    showTokens(result.ids);
    showLogits(result.logits);
  }

  let waiting = 0;
  for (const input of inputs) {
    input.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(ask, 300);
    });
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      clearTimeout(waiting);
      ask();
    });
  }
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(waiting);
    ask();
  });
  document.addEventListener("click", (event) => {
    if (!event.target.classList.contains("try")) return;
    const texts = event.target.parentElement.querySelectorAll(".text");
    inputs.forEach((input, i) => { input.value = texts[i]?.textContent ?? ""; });
    inputs[0].focus();
    ask();
  });

  load().then(() => ask(), (error) => say(`The model cannot be run here: ${error.message}`, "error"));
  // For tests, and for who opens the browser's console.
  window.embbert = { classify };
})();
