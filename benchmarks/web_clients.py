"""Many clients at once that translate label maps by the API: answers, times, and the memory of the server."""

from __future__ import annotations

import argparse
import http.client
import threading
import time
from collections import Counter
from statistics import median, quantiles
from urllib.parse import urlsplit

from web_server import load, served

EXAMPLES = 10


class Client(threading.Thread):
    """Translates one map after another until the time is up; told to come again, it waits as long as it is told."""

    def __init__(self, address: str, maps: list[bytes], number: int, end: float) -> None:
        super().__init__()
        self._host, self._maps, self._number, self._end = urlsplit(address).netloc, maps, number, end
        self.statuses, self.seconds, self.faults = Counter[int](), list[float](), list[str]()

    def run(self) -> None:
        """Ask."""
        connection = http.client.HTTPConnection(self._host, timeout=120)
        headers = {"Content-Type": "image/png"}
        while time.monotonic() < self._end:
            body, began = self._maps[self._number % len(self._maps)], time.monotonic()
            self._number += 1
            try:
                connection.request("POST", "/api/translate?as=image", body, headers)
                answer = connection.getresponse()
                answer.read()
            except OSError as error:
                self.faults.append(repr(error))
                connection.close()
                continue
            self.statuses[answer.status] += 1
            if answer.status == 200:
                self.seconds.append(time.monotonic() - began)
            elif answer.status == 503:
                time.sleep(float(answer.headers["Retry-After"]))


def main() -> None:
    """Print what became of the requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=60)
    options, busy = parser.parse_args(), load()
    with served() as (address, process):
        host, maps = urlsplit(address).netloc, list[bytes]()
        connection = http.client.HTTPConnection(host)
        for place in range(EXAMPLES):
            connection.request("GET", f"/api/models/quickstart/examples/{place}")
            maps.append(connection.getresponse().read())
        end = time.monotonic() + options.seconds
        clients = [Client(address, maps, number, end) for number in range(options.clients)]
        for client in clients:
            client.start()
        resident = list[float]()
        while time.monotonic() < end:
            time.sleep(1)
            resident.append(process.memory_info().rss / 2**20)
        for client in clients:
            client.join()
    statuses = sum((client.statuses for client in clients), Counter[int]())
    seconds = [each for client in clients for each in client.seconds]
    faults = [fault for client in clients for fault in client.faults]
    sixth = max(1, options.seconds // 6)
    early, late = median(resident[sixth : 2 * sixth]), median(resident[-sixth:])
    print(f"{busy}: {options.clients} clients for {options.seconds} s, {len(faults)} faults {faults[:3]}")
    print(f"answers by status: {dict(statuses)}")
    print(f"median {median(seconds):.2f} s, 95th percentile {quantiles(seconds, n=20)[-1]:.2f} s of those translated")
    print(f"resident: {early:.0f} MiB after a sixth, {late:.0f} at the end, {max(resident):.0f} at most")


if __name__ == "__main__":
    main()
