// A session with a certified OpenID provider: logins without a browser, with one, and of machines; and its keys change.
import { byBrowser } from "./by_browser.js";
import { byHand } from "./by_hand.js";
import { House } from "./house.js";
import { furnish, machines } from "./machines.js";
import { end, prove } from "./proof.js";

let house;
try {
  house = await House.build();
  await house.furnish();
  await furnish(house);
  await byHand(house);
  await byBrowser(house);
  await machines(house);
} catch (error) {
  prove("the session runs to its end", false, error.stack);
}
await house?.stop();
end();
