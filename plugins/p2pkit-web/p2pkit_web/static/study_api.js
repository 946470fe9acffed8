// What the study's page asks the server for. Where the network or the server fails for a while it is asked again.

const AGAIN = 2000, PASSING = [0, 408, 503];

export class Refused extends Error {
  constructor(status, error, hint) {
    super(hint ? `${error}: ${hint}` : error);
    this.status = status;
  }
}

async function once(path, body) {
  let response;
  try {
    response = await fetch(path, body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, "The server does not answer", "nothing is lost; this page goes on when it does");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({ error: response.statusText, hint: "" }));
  throw new Refused(response.status, told.error, told.hint);
}

async function patiently(path, body, tell) {
  for (;;) {
    try {
      const response = await once(path, body);
      const answer = response.headers.get("Content-Type").startsWith("image/") ? await response.blob() : await response.json();
      tell(null);
      return answer;
    } catch (error) {
      const refused = error instanceof Refused ? error : new Refused(0, "The connection broke", "this page goes on when it is there again");
      if (!PASSING.includes(refused.status)) throw refused;
      tell(refused);
      await new Promise((done) => setTimeout(done, AGAIN));
    }
  }
}

// The paths of one session; tell() is given what is wrong for a while, and null when it is over.
export class Api {
  constructor(tell) {
    this.tell = tell;
    this.session = "";
  }

  study() { return patiently("/api/study", undefined, this.tell); }

  begin() { return patiently("/api/sessions", {}, this.tell); }

  state() { return patiently(this.path(), undefined, this.tell); }

  async image(place, side) {
    return createImageBitmap(await patiently(`${this.path()}/trials/${place}/${side}.png`, undefined, this.tell));
  }

  shown(place, shown) { return patiently(`${this.path()}/trials/${place}/shown`, shown, this.tell); }

  answer(place, fake, ms) { return patiently(`${this.path()}/trials/${place}/answer`, { fake, ms }, this.tell); }

  path() { return `/api/sessions/${encodeURIComponent(this.session)}`; }
}
