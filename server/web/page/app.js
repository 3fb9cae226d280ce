"use strict";

// The token comes behind the link's #, which browsers send to nobody.
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";

async function call(method, request) {
  const response = await fetch(
      `/api/rpc/${method}?request=${encodeURIComponent(JSON.stringify(request))}`,
      {headers: {Authorization: `Bearer ${token}`}});
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error.message);
  return answer;
}

async function listVms() {
  const vms = [];
  let pageToken = "";
  do {
    const answer = await call("VmService/ListVms", {pageToken});
    vms.push(...answer.vms);
    pageToken = answer.nextPageToken;
  } while (pageToken !== "");
  return vms;
}

async function show() {
  const status = document.getElementById("status");
  try {
    const vms = await listVms();
    const rows = vms.map((vm) => {
      const row = document.createElement("tr");
      for (const text of [vm.name, vm.state]) {
        row.insertCell().textContent = text;
      }
      return row;
    });
    document.querySelector("#vms tbody").replaceChildren(...rows);
    status.textContent = `${vms.length} VMs`;
  } catch (error) {
    status.textContent = error.message;
  }
}

show();
setInterval(show, 2000);
