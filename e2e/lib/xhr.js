// As much of XMLHttpRequest as the 1.7 client uses, over fetch. Node has none; browsers have the real one.

export class FetchXhr {
  #abort = new AbortController();
  #headers = {};
  readyState = 0;
  responseText = "";
  status = 0;
  timeout = 0;

  open(method, url) {
    this.method = method;
    this.url = url;
  }

  setRequestHeader(name, value) {
    this.#headers[name] = value;
  }

  send(body) {
    const timer = this.timeout ? setTimeout(() => this.#timedOut(), this.timeout) : null;
    fetch(this.url, { method: this.method, headers: this.#headers, body: body ?? undefined, signal: this.#abort.signal })
      .then(async (response) => {
        this.status = response.status;
        this.responseText = await response.text();
        this.readyState = 4;
        this.onreadystatechange?.();
      })
      .catch(() => !this.#abort.signal.aborted && this.onerror?.())
      .finally(() => clearTimeout(timer));
  }

  abort() {
    this.#abort.abort();
  }

  #timedOut() {
    this.#abort.abort();
    this.ontimeout?.();
  }
}
